//! CiliumBGPPeerConfig, with a port of one's own and without a source interface.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v2::bgp::peer_config::{AdvertisedFamily, GracefulRestart, PeerConfigStatus, Timers};

/// How a peer is spoken with.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumBGPPeerConfig",
    plural = "ciliumbgppeerconfigs",
    singular = "ciliumbgppeerconfig",
    shortname = "cbgppeer",
    category = "cilium",
    category = "ciliumbgp",
    status = "PeerConfigStatus",
    storage = false,
    deprecated,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumBGPPeerConfig says how BGP peers are spoken with.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PeerConfigSpec {
    /// The TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timers: Option<Timers>,
    /// Name of the Secret with the password of the connection (RFC 2385).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<String>,
    /// Whether routes outlive a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// How many hops a peer of another AS may be away.
    #[schemars(range(min = 1, max = 255), extend("default" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<i32>,
    /// Families that are spoken, and what is announced; absent: IPv4 and IPv6 unicast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<AdvertisedFamily>>,
}

/// The TCP connection to a peer.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Port of the node's side.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<i32>,
    /// Port of the peer.
    #[schemars(range(min = 1, max = 65535), extend("default" = 179))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<i32>,
}
