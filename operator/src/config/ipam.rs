//! How pods get addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_crds::v2alpha1::PodIpPoolSpec;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::engine::PreAllocation;
use crate::object::DEFAULT_POOL;

/// How pods get addresses.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct Ipam {
    /// Who decides.
    pub mode: IpamMode,
    /// Settings of the modes `cluster-pool` and `multi-pool`.
    pub operator: ClusterPool,
    /// Mode `multi-pool`: how many addresses of which pool each node keeps ready, as `default=8,other=16`; empty: `default=8`.
    #[serde(rename = "multiPoolPreAllocation", deserialize_with = "pre_allocation")]
    pub pre_allocation: PreAllocation,
}

impl Default for Ipam {
    fn default() -> Self {
        let pre_allocation = [(Arc::from(DEFAULT_POOL), 8)].into();
        Self { mode: IpamMode::default(), operator: ClusterPool::default(), pre_allocation }
    }
}

/// Who decides about addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum IpamMode {
    /// The operator cuts a CIDR per node out of the pools below.
    #[default]
    ClusterPool,
    /// The operator cuts CIDRs for nodes out of the pools that CiliumPodIPPools are, as their pods need them.
    MultiPool,
    /// Kubernetes gives each node its CIDRs (`spec.podCIDRs`); the operator assigns from them.
    Kubernetes,
    /// Another CNI plugin gives pods their addresses; the operator learns them from the pods' status.
    DelegatedPlugin,
}

/// Pools of the whole cluster.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct ClusterPool {
    /// IPv4 pools, used in this order; more may be added while the cluster runs.
    #[serde(rename = "clusterPoolIPv4PodCIDRList")]
    pub ipv4_cidrs: Vec<IpNet>,
    /// Prefix length of a node's CIDR.
    #[serde(rename = "clusterPoolIPv4MaskSize")]
    pub ipv4_mask: u8,
    /// IPv6 pools.
    #[serde(rename = "clusterPoolIPv6PodCIDRList")]
    pub ipv6_cidrs: Vec<IpNet>,
    /// Prefix length of a node's CIDR.
    #[serde(rename = "clusterPoolIPv6MaskSize")]
    pub ipv6_mask: u8,
    /// Mode `multi-pool`: CiliumPodIPPools that are created if they do not exist, by name.
    #[serde(rename = "autoCreateCiliumPodIPPools")]
    pub auto_create: BTreeMap<String, PodIpPoolSpec>,
}

impl Default for ClusterPool {
    fn default() -> Self {
        Self {
            ipv4_cidrs: vec![IpNet::new_assert([10, 0, 0, 0].into(), 8)],
            ipv4_mask: 24,
            ipv6_cidrs: vec![IpNet::new_assert([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 104)],
            ipv6_mask: 120,
            auto_create: BTreeMap::new(),
        }
    }
}

/// `pool=number`, separated by commas.
fn pre_allocation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PreAllocation, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(Ipam::default().pre_allocation);
    }
    let one = |text: &str| {
        let (pool, count) = text.split_once('=')?;
        Some((Arc::from(pool.trim()), count.trim().parse().ok()?))
    };
    let all: Option<PreAllocation> = text.split(',').map(one).collect();
    all.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not like default=8,other=16")))
}
