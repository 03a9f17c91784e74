//! Addresses of a node's pods: `spec.ipam` and `status.ipam`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::{Cidr, Count};
use crate::v2::Other;

/// Addresses of a family by their text form, with who has them.
pub type AllocationMap = BTreeMap<String, AllocationIp>;

/// What a node has been given.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct IpamSpec {
    /// IPv4 addresses given to the node, with their owners.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pool: AllocationMap,
    /// IPv6 addresses given to the node, with their owners.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ipv6_pool: AllocationMap,
    /// CIDRs from several pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<IpamPools>,
    /// CIDRs given to the node.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// Addresses that must be there when the node starts.
    #[schemars(with = "Option<Count>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_allocate: Option<u32>,
    /// Most addresses that the node may have.
    #[schemars(with = "Option<Count>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_allocate: Option<u32>,
    /// Addresses that must be free at any time.
    #[schemars(with = "Option<Count>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_allocate: Option<u32>,
    /// How many more than `pre-allocate` may be fetched at once.
    #[schemars(with = "Option<Count>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_above_watermark: Option<u32>,
    /// Tags by which a static public address for the node is found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub static_ip_tags: BTreeMap<String, String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Who has an address.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct AllocationIp {
    /// Who uses the address: `namespace/name` of a pod or another name. Absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What the address belongs to: the UID of the pod, or at a cloud the network interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

impl AllocationIp {
    /// The entry of an address that `owner` has by right of `resource`.
    pub fn new(owner: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { owner: Some(owner.into()), resource: Some(resource.into()), other: Other::new() }
    }
}

/// CIDRs from several pools.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct IpamPools {
    /// What the node needs, per pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<PoolRequest>,
    /// What the node has been given, per pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allocated: Vec<PoolAllocation>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// What a node needs of one pool.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PoolRequest {
    /// Name of the pool.
    #[schemars(length(min = 1))]
    pub pool: String,
    /// How many addresses are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<PoolDemand>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// How many addresses are needed, per family.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PoolDemand {
    /// Number of IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_addrs: Option<u32>,
    /// Number of IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_addrs: Option<u32>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// What a node has been given of one pool.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PoolAllocation {
    /// Name of the pool.
    #[schemars(length(min = 1))]
    pub pool: String,
    /// The CIDRs.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Whether the first address of each CIDR may be given to a pod.
    #[serde(default, rename = "allowFirstIP", skip_serializing_if = "Option::is_none")]
    pub allow_first_ip: Option<bool>,
    /// Whether the last address of each CIDR may be given to a pod.
    #[serde(default, rename = "allowLastIP", skip_serializing_if = "Option::is_none")]
    pub allow_last_ip: Option<bool>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// What a node uses.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct IpamStatus {
    /// IPv4 addresses in use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub used: AllocationMap,
    /// IPv6 addresses in use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ipv6_used: AllocationMap,
    /// State of each CIDR in `spec.ipam.podCIDRs`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_cidrs: BTreeMap<String, PodCidrUse>,
    /// Error of the last allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_status: Option<OperatorStatus>,
    /// IPv4 addresses on their way back: `marked-for-release`, `ready-for-release`, `do-not-release`, `released`.
    #[schemars(with = "BTreeMap<String, Release>")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub release_ips: BTreeMap<String, String>,
    /// IPv6 addresses on their way back, with the same states.
    #[schemars(with = "BTreeMap<String, Release>")]
    #[serde(rename = "release-ipv6s", skip_serializing_if = "BTreeMap::is_empty")]
    pub release_ipv6s: BTreeMap<String, String>,
    /// The static public address that the node has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_static_ip: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// How far a CIDR is used.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct PodCidrUse {
    /// `in-use`, `depleted` (no address is free) or `released` (the node gives it back).
    #[schemars(extend("enum" = ["released", "depleted", "in-use"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// How the last allocation went.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct OperatorStatus {
    /// Why no address could be given. Absent: it went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Schema of the steps by which an address is given back.
struct Release;

impl JsonSchema for Release {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Release".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "enum": ["marked-for-release", "ready-for-release", "do-not-release", "released"],
        })
    }
}
