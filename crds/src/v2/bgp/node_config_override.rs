//! CiliumBGPNodeConfigOverride: what is other about the BGP routers of one node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{keyed, patterns};

/// What is other about the routers of the node of the same name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPNodeConfigOverride",
    plural = "ciliumbgpnodeconfigoverrides",
    singular = "ciliumbgpnodeconfigoverride",
    shortname = "cbgpnodeoverride",
    category = "cilium",
    category = "ciliumbgp",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumBGPNodeConfigOverride says what is other about the BGP routers of the node of the same name.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigOverrideSpec {
    /// The routers.
    #[schemars(length(min = 1), transform = keyed("name"))]
    pub bgp_instances: Vec<InstanceOverride>,
}

/// What is other about a router.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceOverride {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its id.
    #[schemars(extend("format" = "ipv4"))]
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Port on which it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
    /// Its AS.
    #[schemars(range(min = 1, max = 4_294_967_295i64))]
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<i64>,
    /// Its peers.
    #[schemars(transform = keyed("name"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerOverride>>,
}

/// What is other about a peer.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerOverride {
    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Address of the node's side.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    /// Port of the node's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
}
