//! CiliumPodIPPool: CIDRs out of which nodes are given smaller ones for their pods, in `ipam.mode: multi-pool`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta;
use crate::schema::checked::Cidr;
use crate::schema::immutable;
use crate::v2::Other;

/// A pool.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumPodIPPool",
    plural = "ciliumpodippools",
    singular = "ciliumpodippool",
    shortname = "cpip",
    category = "cilium",
    derive = "Default",
    derive = "PartialEq",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumPodIPPool is a pool of addresses for pods. Nodes are given parts of its CIDRs as their pods need them."
)]
#[serde(default)]
pub struct PodIpPoolSpec {
    /// IPv4 part of the pool. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv4Cidrs>")]
    pub ipv4: Option<PoolCidrs>,
    /// IPv6 part of the pool. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv6Cidrs>")]
    pub ipv6: Option<PoolCidrs>,
    /// Whether the first address of each CIDR that a node is given may be given to a pod. Without effect on CIDRs of one or
    /// two addresses, all of which may. Cannot be changed.
    #[serde(rename = "allowFirstIP")]
    #[schemars(transform = immutable)]
    pub allow_first_ip: bool,
    /// Whether the last address of each CIDR that a node is given may be given to a pod. Without effect on CIDRs of one or
    /// two addresses, all of which may. Cannot be changed.
    #[serde(rename = "allowLastIP")]
    #[schemars(transform = immutable)]
    pub allow_last_ip: bool,
    /// Pods that get their addresses from this pool if neither they nor their namespace name one by an annotation
    /// (`ipam.cilium.io/ip-pool`). Beside a pod's labels it may ask for `io.kubernetes.pod.namespace` and
    /// `io.kubernetes.pod.name`. A pod that more than one pool selects gets no address.
    #[serde(rename = "podSelector", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<meta::LabelSelector>")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces whose pods may be selected. Where both selectors are given, both must match; absent or empty: all namespaces.
    #[serde(rename = "namespaceSelector", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<meta::LabelSelector>")]
    pub namespace_selector: Option<LabelSelector>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// One family of a pool.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolCidrs {
    /// The pool's CIDRs. More may be added at any time.
    pub cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    pub mask_size: u8,
    /// Fields unknown to this version.
    #[serde(flatten)]
    pub other: Other,
}

/// Schema of [`PoolCidrs`] of IPv4.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "its schema is what is used")]
struct Ipv4Cidrs {
    /// The pool's CIDRs. More may be added at any time.
    #[schemars(with = "Vec<Cidr>", length(min = 1))]
    cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    #[schemars(range(min = 1, max = 32), transform = immutable)]
    mask_size: u8,
}

/// Schema of [`PoolCidrs`] of IPv6.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "its schema is what is used")]
struct Ipv6Cidrs {
    /// The pool's CIDRs. More may be added at any time.
    #[schemars(with = "Vec<Cidr>", length(min = 1))]
    cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    #[schemars(range(min = 1, max = 128), transform = immutable)]
    mask_size: u8,
}
