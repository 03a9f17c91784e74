//! What a node needs of pools, in mode multi-pool.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::demands::{AddressDemand, Families};
use crate::compile::pool::{Part, parts};
use crate::index::{PoolSpec, PoolSpecs};
use crate::object::{CiliumNode, DEFAULT_POOL, NodePool, PoolRequest};

/// How many addresses of each pool a node has beyond those that pods use, as `ipam.multiPoolPreAllocation` says.
pub type PreAllocation = BTreeMap<Arc<str>, u32>;

/// What a node shall have of pools.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiPool {
    /// `spec.ipam.pools.requested`, as it shall be.
    pub requested: Box<[PoolRequest]>,
    /// What nodes may be given of each pool.
    pub specs: Arc<PoolSpecs>,
}

impl MultiPool {
    /// For the addresses that a ledger gives to pods, and for those that wait. Like Cilium's: of each pool the number in use, what
    /// is kept ready, and then up to a multiple of that.
    #[must_use]
    pub fn of(
        ledger: Option<&CiliumNode>,
        assign: &[AddressDemand],
        specs: &Arc<PoolSpecs>,
        families: Families,
        ready: &PreAllocation,
    ) -> Self {
        let mut used: BTreeMap<Arc<str>, [u32; 2]> =
            ready.keys().filter(|pool| specs.contains_key(*pool)).map(|pool| (Arc::clone(pool), [0; 2])).collect();
        for (pool, cidr) in ledger.into_iter().flat_map(|ledger| &ledger.pools).flat_map(of_pool) {
            let count = ledger.map_or(0, |ledger| entries_in(ledger, cidr).count());
            let used = used.entry(Arc::clone(pool)).or_default();
            used[usize::from(cidr.addr().is_ipv6())] += u32::try_from(count).unwrap_or(u32::MAX);
        }
        for pod in assign {
            for (v6, pool) in [(false, &pod.pools[0]), (true, &pod.pools[1])] {
                let waits = if v6 { pod.families.v6 } else { pod.families.v4 };
                if waits {
                    used.entry(Arc::clone(pool)).or_default()[usize::from(v6)] += 1;
                }
            }
        }
        let request = |(pool, used): (Arc<str>, [u32; 2])| {
            let ready = ready.get(&pool).copied().unwrap_or(0);
            let needed = |v6: bool| {
                let enabled = if v6 { families.v6 } else { families.v4 };
                let has = specs.get(&pool).is_some_and(|spec| !spec.family(v6).cidrs.is_empty());
                let used = used[usize::from(v6)];
                match ready {
                    _ if !enabled => 0,
                    0 => used,
                    _ if !has => used,
                    ready => used.saturating_add(ready).div_ceil(ready).saturating_mul(ready),
                }
            };
            PoolRequest { ipv4: needed(false), ipv6: needed(true), pool }
        };
        let requested = used.into_iter().map(request).filter(|request| request.ipv4 + request.ipv6 > 0);
        Self { requested: requested.collect(), specs: Arc::clone(specs) }
    }

    /// Pools, with the family (whether it is IPv6), of which a ledger has too few addresses.
    #[must_use]
    pub fn missing(&self, ledger: &CiliumNode, max_pods: u32) -> Vec<(Arc<str>, bool)> {
        let mut missing = Vec::new();
        let parts = parts(ledger, max_pods, true);
        for request in &self.requested {
            let Some(spec) = self.specs.get(&request.pool) else { continue };
            for (v6, needed) in [(false, request.ipv4), (true, request.ipv6)] {
                let capacity: u128 = parts
                    .iter()
                    .filter(|part| *part.pool == *request.pool && part.cidr.addr().is_ipv6() == v6)
                    .map(|part| capacity(part, ledger, spec))
                    .sum();
                if capacity < needed.into() && !spec.family(v6).cidrs.is_empty() {
                    missing.push((Arc::clone(&request.pool), v6));
                }
            }
        }
        missing
    }

    /// CIDRs that a ledger has beyond its needs and of which no pod has an address, the last one first. Those of the default pool
    /// stay for as long as the node: it assigns from their reserve without being asked.
    #[must_use]
    pub fn surplus(&self, ledger: &CiliumNode, max_pods: u32) -> Vec<IpNet> {
        let none = PoolSpec::default();
        let mut surplus = Vec::new();
        let parts = parts(ledger, max_pods, true);
        for pool in ledger.pools.iter().filter(|pool| *pool.name != *DEFAULT_POOL) {
            let spec = self.specs.get(&pool.name).unwrap_or(&none);
            let request = self.requested.iter().find(|request| request.pool == pool.name);
            for v6 in [false, true] {
                let needed = request.map_or(0, |request| if v6 { request.ipv6 } else { request.ipv4 });
                let own = |part: &&Part<'_>| *part.pool == *pool.name && part.cidr.addr().is_ipv6() == v6;
                let mut have: u128 = parts.iter().filter(own).map(|part| capacity(part, ledger, spec)).sum();
                for part in parts.iter().filter(own).rev() {
                    let size = capacity(part, ledger, spec);
                    if entries_in(ledger, &part.cidr).next().is_none() && have - size >= needed.into() {
                        have -= size;
                        surplus.push(part.cidr);
                    }
                }
            }
        }
        surplus
    }

    /// Enters a CIDR that was chosen for the node under the pool that it is of.
    pub fn give(&self, ledger: &mut CiliumNode, cidr: IpNet) {
        let Some((name, spec)) = self.specs.iter().find(|(_, spec)| spec.has(&cidr)) else { return };
        let mut pools = std::mem::take(&mut ledger.pools).into_vec();
        match pools.iter_mut().find(|pool| pool.name == *name) {
            Some(pool) if pool.cidrs.contains(&cidr) => {}
            Some(pool) => pool.cidrs = pool.cidrs.iter().copied().chain([cidr]).collect(),
            None => pools.push(NodePool {
                name: Arc::clone(name),
                cidrs: [cidr].into(),
                allow_first_ip: spec.allow_first_ip,
                allow_last_ip: spec.allow_last_ip,
            }),
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        ledger.pools = pools.into();
    }

    /// Whether pods may be given addresses of what a node has of a pool.
    #[must_use]
    pub fn may_assign(&self, part: &Part<'_>) -> bool {
        self.specs.get(part.pool).is_some_and(|spec| spec.has(&part.cidr))
    }
}

/// Takes away a CIDR.
pub fn take_back(ledger: &mut CiliumNode, cidr: &IpNet) {
    let mut pools = std::mem::take(&mut ledger.pools).into_vec();
    for pool in &mut pools {
        pool.cidrs = pool.cidrs.iter().filter(|have| *have != cidr).copied().collect();
    }
    pools.retain(|pool| !pool.cidrs.is_empty());
    ledger.pools = pools.into();
}

fn of_pool(pool: &NodePool) -> impl Iterator<Item = (&Arc<str>, &IpNet)> {
    pool.cidrs.iter().map(move |cidr| (&pool.name, cidr))
}

fn entries_in<'a>(ledger: &'a CiliumNode, cidr: &IpNet) -> impl Iterator<Item = &'a IpAddr> + use<'a> {
    let cidr = *cidr;
    ledger.pool.keys().filter(move |address| cidr.contains(*address))
}

/// How many addresses of a part pods have or may have: of what is not the pool's any more, those they have.
fn capacity(part: &Part<'_>, ledger: &CiliumNode, spec: &PoolSpec) -> u128 {
    match spec.has(&part.cidr) {
        true => part.assignable_count(),
        false => entries_in(ledger, &part.cidr).count() as u128,
    }
}
