//! Version `v2` of the `cilium.io` group, one file a kind.
//!
//! Field names on the wire are kebab-case with historical exceptions (`podCIDRs`, `allowFirstIP`, `overallHealth`). What is
//! optional on the wire is an [`Option`], so that an object written by another program is written back with every field it
//! had, also with zero values. Empty lists and maps are the exception: they are left out, as their absence means the same.
//!
//! Structs of what programs write whole (nodes, endpoints, identities) end in `other`: fields that this version does not know.
//! They are not part of the schema; they are kept so that a read-modify-write by an older release does not erase what a newer
//! one has written. What users write is only read, and of its status only conditions are patched: it has no `other`.

pub mod bgp;
pub mod cidr_group;
pub mod clusterwide_envoy_config;
pub mod clusterwide_network_policy;
pub mod egress_gateway_policy;
pub mod endpoint;
pub mod envoy_config;
pub mod identity;
pub mod load_balancer_ip_pool;
pub mod local_redirect_policy;
pub mod network_policy;
pub mod node;
pub mod node_config;
pub mod pod_ip_pool;
pub mod policy;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use bgp::{
    CiliumBGPAdvertisement, CiliumBGPClusterConfig, CiliumBGPNodeConfig, CiliumBGPNodeConfigOverride,
    CiliumBGPPeerConfig,
};
pub use cidr_group::CiliumCIDRGroup;
pub use clusterwide_envoy_config::CiliumClusterwideEnvoyConfig;
pub use clusterwide_network_policy::CiliumClusterwideNetworkPolicy;
pub use egress_gateway_policy::CiliumEgressGatewayPolicy;
pub use endpoint::{CiliumEndpoint, EndpointFields, EndpointStatus};
pub use envoy_config::CiliumEnvoyConfig;
pub use identity::{CiliumIdentity, IdentityFields};
pub use load_balancer_ip_pool::CiliumLoadBalancerIPPool;
pub use local_redirect_policy::CiliumLocalRedirectPolicy;
pub use network_policy::CiliumNetworkPolicy;
pub use node::{CiliumNode, NodeSpec, NodeStatus};
pub use node_config::{CiliumNodeConfig, NodeConfigSpec, NodeSelector, Requirement};
pub use pod_ip_pool::CiliumPodIPPool;

/// Fields of an object that this version has no type for, by name.
pub type Other = BTreeMap<String, Value>;

/// An address per family.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct AddressPair {
    /// IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Encryption of the traffic between nodes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct EncryptionSpec {
    /// Index of the key in use. 0 or absent: not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Reads the unknown fields of a root object whose own fields stand beside `apiVersion` and `kind`; those two are written
/// by the resource type itself.
fn other_at_root<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Other, D::Error> {
    let mut other = Other::deserialize(deserializer)?;
    other.remove("apiVersion");
    other.remove("kind");
    Ok(other)
}
