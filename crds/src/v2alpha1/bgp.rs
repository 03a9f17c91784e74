//! Kinds of the BGP control plane whose earlier version differs from [`v2`](crate::v2::bgp). Served for old clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod advertisement;
pub mod cluster_config;
pub mod node_config;
pub mod peer_config;

pub use advertisement::CiliumBGPAdvertisement;
pub use cluster_config::CiliumBGPClusterConfig;
pub use node_config::CiliumBGPNodeConfig;
pub use peer_config::CiliumBGPPeerConfig;

/// A resource that says how a peer is spoken with.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PeerConfigRef {
    /// Its group.
    #[schemars(extend("default" = "cilium.io"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind.
    #[schemars(extend("default" = "CiliumBGPPeerConfig"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
}
