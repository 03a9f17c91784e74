//! CiliumPodIPPool as `v2` will have it. It is defined but not served: clients use
//! [`v2alpha1`](crate::v2alpha1::CiliumPodIPPool).

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::Cidr;
use crate::schema::{immutable, keyed, rules};

/// Prefixes, and the pods that get addresses of them.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumPodIPPool",
    plural = "ciliumpodippools",
    singular = "ciliumpodippool",
    shortname = "cpip",
    category = "cilium",
    served = false,
    storage = false,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumPodIPPool holds prefixes from which pods get their addresses."
)]
#[serde(rename_all = "camelCase")]
pub struct PodIpPoolSpec {
    /// Addresses of IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Pool>,
    /// Addresses of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Pool>,
    /// Whether the first address of each CIDR of a node may be given to a pod.
    #[schemars(extend("default" = false), transform = immutable)]
    #[serde(rename = "allowFirstIP", skip_serializing_if = "Option::is_none")]
    pub allow_first_ip: Option<bool>,
    /// Whether the last address of each CIDR of a node may be given to a pod.
    #[schemars(extend("default" = false), transform = immutable)]
    #[serde(rename = "allowLastIP", skip_serializing_if = "Option::is_none")]
    pub allow_last_ip: Option<bool>,
    /// Pods that get addresses of this pool without asking for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces whose pods get addresses of this pool without asking for it; beside `podSelector` both must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// Prefixes of IPv4.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = rules(&[("!has(self.pool) || self.pool.all(p, p.cidr in self.cidrs)", "pool names a CIDR that is not in cidrs")]))]
#[serde(rename_all = "camelCase")]
pub struct Ipv4Pool {
    /// The prefixes.
    #[schemars(with = "Vec<Cidr>", length(min = 1, max = 32))]
    pub cidrs: Vec<String>,
    /// Length of the CIDR that a node gets at once.
    #[schemars(range(min = 1, max = 32), transform = immutable)]
    pub mask_size: u8,
    /// More about some of the prefixes.
    #[schemars(length(max = 32), transform = keyed("cidr"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Vec<PoolCidr>>,
}

/// Prefixes of IPv6.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = rules(&[("!has(self.pool) || self.pool.all(p, p.cidr in self.cidrs)", "pool names a CIDR that is not in cidrs")]))]
#[serde(rename_all = "camelCase")]
pub struct Ipv6Pool {
    /// The prefixes.
    #[schemars(with = "Vec<Cidr>", length(min = 1, max = 32))]
    pub cidrs: Vec<String>,
    /// Length of the CIDR that a node gets at once.
    #[schemars(range(min = 1, max = 128), transform = immutable)]
    pub mask_size: u8,
    /// More about some of the prefixes.
    #[schemars(length(max = 32), transform = keyed("cidr"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Vec<PoolCidr>>,
}

/// More about a prefix.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolCidr {
    /// The prefix, one of `cidrs`.
    #[schemars(with = "Cidr")]
    pub cidr: String,
    /// Addresses of it that are never given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_ranges: Option<Vec<AddressRange>>,
}

/// Addresses from the first to the last.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AddressRange {
    /// First address.
    pub start: String,
    /// Last address.
    pub end: String,
}
