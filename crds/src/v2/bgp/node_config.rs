//! CiliumBGPNodeConfig: the BGP routers of a node, and the state of their sessions.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AFI, AutoDiscovery, PeerConfigName, SAFI};
use crate::meta::Condition;
use crate::schema::{keyed, patterns};

/// The routers of the node of the same name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPNodeConfig",
    plural = "ciliumbgpnodeconfigs",
    singular = "ciliumbgpnodeconfig",
    shortname = "cbgpnode",
    category = "cilium",
    category = "ciliumbgp",
    status = "NodeConfigStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumBGPNodeConfig holds the BGP routers of the node of the same name. The operator writes it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigSpec {
    /// The routers.
    #[schemars(length(min = 1, max = 16), transform = keyed("name"))]
    pub bgp_instances: Vec<NodeInstance>,
}

/// A router of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeInstance {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its AS.
    #[schemars(range(min = 1, max = 4_294_967_295i64))]
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<i64>,
    /// Its id; absent: the node's IPv4 address, or one made from what the node has.
    #[schemars(extend("format" = "ipv4"))]
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Port on which it listens; absent: it does not.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
    /// Its peers.
    #[schemars(transform = keyed("name"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<NodePeer>>,
}

/// A peer of a node's router.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePeer {
    /// Its name.
    pub name: String,
    /// Its address.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Its AS; 0: any.
    #[schemars(range(min = 0, max = 4_294_967_295i64))]
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<i64>,
    /// How its address is found, where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_discovery: Option<AutoDiscovery>,
    /// Address of the node's side.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    /// How it is spoken with; absent: with defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<PeerConfigName>,
}

/// State of the node's routers.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigStatus {
    /// The routers.
    #[schemars(transform = keyed("name"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp_instances: Option<Vec<InstanceStatus>>,
    /// Conditions.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// State of a router.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its AS.
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<i64>,
    /// Its peers.
    #[schemars(transform = keyed("name"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerStatus>>,
}

/// State of a session.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Name of the peer.
    pub name: String,
    /// Address of the peer.
    pub peer_address: String,
    /// AS of the peer.
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<i64>,
    /// State of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peering_state: Option<String>,
    /// Timers that were agreed upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timers: Option<AgreedTimers>,
    /// Since when it is established, as in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established_time: Option<String>,
    /// Routes that were exchanged, by family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_count: Option<Vec<RouteCount>>,
}

/// Timers that were agreed upon.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgreedTimers {
    /// Silence after which the session is over, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_hold_time_seconds: Option<i32>,
    /// Between two signs of life, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_keepalive_seconds: Option<i32>,
}

/// Routes of a family.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RouteCount {
    /// Address family.
    #[schemars(extend("enum" = AFI))]
    pub afi: String,
    /// Subsequent address family.
    #[schemars(extend("enum" = SAFI))]
    pub safi: String,
    /// How many were received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<i32>,
    /// How many were announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised: Option<i32>,
}
