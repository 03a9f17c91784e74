//! What the kinds of the BGP control plane have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod advertisement;
pub mod cluster_config;
pub mod node_config;
pub mod node_config_override;
pub mod peer_config;

pub use advertisement::CiliumBGPAdvertisement;
pub use cluster_config::CiliumBGPClusterConfig;
pub use node_config::CiliumBGPNodeConfig;
pub use node_config_override::CiliumBGPNodeConfigOverride;
pub use peer_config::CiliumBGPPeerConfig;

/// Address families, by their names.
pub(crate) const AFI: [&str; 5] = ["ipv4", "ipv6", "l2vpn", "ls", "opaque"];

/// Subsequent address families, by their names.
pub(crate) const SAFI: [&str; 15] = [
    "unicast",
    "multicast",
    "mpls_label",
    "encapsulation",
    "vpls",
    "evpn",
    "ls",
    "sr_policy",
    "mup",
    "mpls_vpn",
    "mpls_vpn_multicast",
    "route_target_constraints",
    "flowspec_unicast",
    "flowspec_vpn",
    "key_value",
];

/// A CiliumBGPPeerConfig.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PeerConfigName {
    /// Its name.
    pub name: String,
}

/// How a peer's address is found.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoDiscovery {
    /// `DefaultGateway`: the peer is the node's default gateway.
    #[schemars(extend("enum" = ["DefaultGateway"]))]
    pub mode: String,
    /// Which of the default gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<DefaultGateway>,
}

/// A default gateway.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultGateway {
    /// Its family.
    #[schemars(extend("enum" = ["ipv4", "ipv6"]))]
    pub address_family: String,
}
