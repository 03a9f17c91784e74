//! Pools of addresses.

use std::sync::Arc;

use ipnet::IpNet;

use super::Selector;

/// The pool of pods for which nobody names another one. Nodes' overlay addresses and reserves are of it, too.
pub const DEFAULT_POOL: &str = "default";

/// A `CiliumPodIPPool`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodIpPool {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// When it was created, in seconds since 1970; 0: unknown. Where two pools overlap, the older one has the addresses.
    pub created: i64,
    /// `spec.ipv4`, without what makes no sense.
    pub ipv4: PoolCidrs,
    /// `spec.ipv6`, without what makes no sense.
    pub ipv6: PoolCidrs,
    /// `spec.allowFirstIP`.
    pub allow_first_ip: bool,
    /// `spec.allowLastIP`.
    pub allow_last_ip: bool,
    /// `spec.podSelector`, about the pods' own labels and two that are added: see `index::pools`.
    pub pod_selector: Option<Selector>,
    /// `spec.namespaceSelector`, about the labels of namespaces.
    pub namespace_selector: Option<Selector>,
}

impl PodIpPool {
    /// Its part of a family.
    #[must_use]
    pub fn family(&self, v6: bool) -> &PoolCidrs {
        if v6 { &self.ipv6 } else { &self.ipv4 }
    }
}

/// One family of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolCidrs {
    /// Its CIDRs, used in this order; none: the pool has none of this family.
    pub cidrs: Box<[IpNet]>,
    /// Prefix length of what nodes are given.
    pub mask: u8,
}

/// What annotations of a pod or a namespace say of pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolChoice {
    /// `ipam.cilium.io/ip-pool`.
    pub any: Option<Arc<str>>,
    /// `ipam.cilium.io/ipv4-pool`.
    pub ipv4: Option<Arc<str>>,
    /// `ipam.cilium.io/ipv6-pool`.
    pub ipv6: Option<Arc<str>>,
    /// `ipam.cilium.io/require-pool-match`: where none is named and none selects the pod, the default one is not taken.
    pub match_required: bool,
}

impl PoolChoice {
    /// The pool that is named for a family, and the annotation that does.
    #[must_use]
    pub fn of(&self, v6: bool) -> Option<(&Arc<str>, &'static str)> {
        let (own, key) = if v6 { (&self.ipv6, IPV6_POOL) } else { (&self.ipv4, IPV4_POOL) };
        own.as_ref().map(|name| (name, key)).or_else(|| Some((self.any.as_ref()?, IP_POOL)))
    }
}

/// Annotation of pods and namespaces: the pool of both families.
pub const IP_POOL: &str = "ipam.cilium.io/ip-pool";
/// The pool of IPv4 addresses alone.
pub const IPV4_POOL: &str = "ipam.cilium.io/ipv4-pool";
/// The pool of IPv6 addresses alone.
pub const IPV6_POOL: &str = "ipam.cilium.io/ipv6-pool";
/// Whether the default pool is no choice: `true` or `false`.
pub const REQUIRE_POOL_MATCH: &str = "ipam.cilium.io/require-pool-match";
