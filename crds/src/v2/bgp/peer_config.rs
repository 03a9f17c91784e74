//! CiliumBGPPeerConfig: how a peer is spoken with.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AFI, SAFI};
use crate::meta::{Condition, LabelSelector};
use crate::schema::{keyed, rules};

/// How a peer is spoken with.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPPeerConfig",
    plural = "ciliumbgppeerconfigs",
    singular = "ciliumbgppeerconfig",
    shortname = "cbgppeer",
    category = "cilium",
    category = "ciliumbgp",
    status = "PeerConfigStatus",
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
    /// Port of the peer.
    #[schemars(range(min = 1, max = 65535), extend("default" = 179))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<i32>,
    /// Device whose address is the connection's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_interface: Option<String>,
}

/// Timers of a session.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = rules(&[("self.keepAliveTimeSeconds <= self.holdTimeSeconds", "keepAliveTimeSeconds is longer than holdTimeSeconds")]))]
#[serde(rename_all = "camelCase")]
pub struct Timers {
    /// Between two attempts to connect, in seconds.
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 120))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_retry_time_seconds: Option<i32>,
    /// Silence after which a session is over, in seconds.
    #[schemars(range(min = 3, max = 65535), extend("default" = 90))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<i32>,
    /// Between two signs of life, in seconds.
    #[schemars(range(min = 1, max = 65535), extend("default" = 30))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_time_seconds: Option<i32>,
}

/// Whether routes outlive a restart (RFC 4724).
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GracefulRestart {
    /// Whether they do.
    pub enabled: bool,
    /// For how long, in seconds.
    #[schemars(range(min = 1, max = 4095), extend("default" = 120))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_time_seconds: Option<i32>,
}

/// A family, and what is announced of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AdvertisedFamily {
    /// Address family.
    #[schemars(extend("enum" = AFI))]
    pub afi: String,
    /// Subsequent address family.
    #[schemars(extend("enum" = SAFI))]
    pub safi: String,
    /// CiliumBGPAdvertisements that are announced; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertisements: Option<LabelSelector>,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PeerConfigStatus {
    /// Conditions.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
