//! CiliumBGPNodeConfig, before peers could be found.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PeerConfigRef;
use crate::schema::{keyed, patterns};
use crate::v2::bgp::node_config::NodeConfigStatus;

/// The routers of the node of the same name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumBGPNodeConfig",
    plural = "ciliumbgpnodeconfigs",
    singular = "ciliumbgpnodeconfig",
    shortname = "cbgpnode",
    category = "cilium",
    category = "ciliumbgp",
    status = "NodeConfigStatus",
    storage = false,
    deprecated,
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
    /// Address of the node's side.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    /// How it is spoken with; absent: with defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<PeerConfigRef>,
}
