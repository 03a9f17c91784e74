//! CiliumBGPClusterConfig: the BGP routers of some nodes, and their peers.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AutoDiscovery, PeerConfigName};
use crate::meta::{Condition, LabelSelector};
use crate::schema::{keyed, patterns};

/// Routers, and the nodes that have them.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPClusterConfig",
    plural = "ciliumbgpclusterconfigs",
    singular = "ciliumbgpclusterconfig",
    shortname = "cbgpcluster",
    category = "cilium",
    category = "ciliumbgp",
    status = "ClusterConfigStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumBGPClusterConfig says which nodes speak BGP, and with whom.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfigSpec {
    /// The nodes; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The routers.
    #[schemars(length(min = 1, max = 16), transform = keyed("name"))]
    pub bgp_instances: Vec<Instance>,
}

/// A router.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its AS.
    #[schemars(range(min = 1, max = 4_294_967_295i64))]
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<i64>,
    /// Port on which it listens; absent: it does not.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
    /// Its peers.
    #[schemars(transform = keyed("name"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<Peer>>,
}

/// A peer of a router.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its address.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Its AS; 0: any.
    #[schemars(range(min = 0, max = 4_294_967_295i64), extend("default" = 0))]
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<i64>,
    /// How its address is found, where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_discovery: Option<AutoDiscovery>,
    /// How it is spoken with; absent: with defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_config_ref: Option<PeerConfigName>,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ClusterConfigStatus {
    /// Conditions.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
