//! Which node has which CIDR, and which is next.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::Instant;

use crate::config::ClusterPool;
use crate::engine::MultiPool;
use crate::object::CiliumNode;

/// Numbers the CIDRs of a pool.
type Number = u128;

/// For so long a choice counts as used although no ledger says so. Longer than any write may take.
const PINNED: Duration = Duration::from_secs(60);

/// What a node is given of pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// CIDRs.
    pub cidrs: Vec<IpNet>,
    /// Pools, with the family (whether it is IPv6), of which nothing is left.
    pub exhausted: Vec<(Arc<str>, bool)>,
}

/// The ledger of node CIDRs as this process knows it: what all CiliumNodes say, and what it knows beyond that.
#[derive(Clone, Debug)]
pub struct Cidrs {
    pools: ClusterPool,
    /// What the engine's snapshot says.
    ledgers: BTreeMap<IpNet, Arc<str>>,
    /// Own choices whose echo has not come, and what a consistent read found that the snapshot may not know yet.
    pinned: BTreeMap<IpNet, (Arc<str>, Instant)>,
    /// Per pool: the CIDR after the one that was given last.
    next: BTreeMap<IpNet, Number>,
}

impl Cidrs {
    /// Nothing is used yet.
    #[must_use]
    pub fn new(pools: ClusterPool) -> Self {
        Self { pools, ledgers: BTreeMap::new(), pinned: BTreeMap::new(), next: BTreeMap::new() }
    }

    /// `cidr` belongs to `node` for now, whatever a snapshot says; it need not be of a pool.
    pub fn pin(&mut self, cidr: IpNet, node: &Arc<str>) {
        self.pinned.insert(cidr.trunc(), (Arc::clone(node), Instant::now() + PINNED));
    }

    /// What all ledgers say, in a snapshot.
    pub fn set_ledgers(&mut self, used: &[(IpNet, Arc<str>)]) {
        self.ledgers = used.iter().map(|(cidr, node)| (cidr.trunc(), Arc::clone(node))).collect();
        let now = Instant::now();
        self.pinned.retain(|cidr, (node, until)| *until > now && self.ledgers.get(cidr) != Some(node));
    }

    /// Chooses a CIDR of a family for a `node` that has none; none when all pools are full. Chosen again before its echo has
    /// come, it is the same one.
    pub fn choose(&mut self, v6: bool, node: &Arc<str>) -> Option<IpNet> {
        let again = self.pinned.iter().find(|(cidr, (owner, _))| owner == node && cidr.addr().is_ipv6() == v6);
        if let Some(cidr) = again.map(|(cidr, _)| *cidr) {
            self.pin(cidr, node);
            return Some(cidr);
        }
        let (pools, mask) = match v6 {
            false => (&self.pools.ipv4_cidrs, self.pools.ipv4_mask),
            true => (&self.pools.ipv6_cidrs, self.pools.ipv6_mask),
        };
        let pools = pools.clone();
        self.choose_in(&pools, mask, node)
    }

    fn choose_in(&mut self, pools: &[IpNet], mask: u8, node: &Arc<str>) -> Option<IpNet> {
        for pool in pools.iter().copied() {
            let start = self.next.get(&pool).copied().unwrap_or(0);
            if let Some((index, cidr)) = self.free_in(&pool, mask, start) {
                self.next.insert(pool, index + 1);
                self.pin(cidr, node);
                return Some(cidr);
            }
        }
        None
    }

    /// Chooses what a node lacks of pools, besides what its `ledger` has. Chosen again before its echo has come, it is the same.
    pub fn grow(&mut self, multi: &MultiPool, ledger: &CiliumNode, max_pods: u32) -> Growth {
        let (mut ledger, mut growth) = (ledger.clone(), Growth::default());
        let node = Arc::clone(&ledger.name);
        loop {
            let missing = multi.missing(&ledger, max_pods);
            let Some((pool, v6)) = missing.into_iter().find(|missing| !growth.exhausted.contains(missing)) else {
                return growth;
            };
            let Some(spec) = multi.specs.get(&pool) else { return growth };
            let family = spec.family(v6);
            let again = self.pinned.iter().find(|(cidr, (owner, _))| {
                *owner == node
                    && cidr.prefix_len() == family.mask
                    && spec.has(cidr)
                    && !ledger.cidrs().any(|c| c == *cidr)
            });
            let again = again.map(|(cidr, _)| *cidr);
            match again.or_else(|| self.choose_in(&family.cidrs, family.mask, &node)) {
                Some(cidr) => {
                    self.pin(cidr, &node);
                    multi.give(&mut ledger, cidr);
                    growth.cidrs.push(cidr);
                }
                None => growth.exhausted.push((pool, v6)),
            }
        }
    }

    /// All pools of a family, for people.
    #[must_use]
    pub fn pools(&self, v6: bool) -> String {
        let pools = if v6 { &self.pools.ipv6_cidrs } else { &self.pools.ipv4_cidrs };
        pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn free_in(&self, pool: &IpNet, mask: u8, start: Number) -> Option<(Number, IpNet)> {
        let bits = mask.checked_sub(pool.prefix_len())?;
        let count = 1_u128.checked_shl(bits.into()).unwrap_or(Number::MAX);
        let start = if start < count { start } else { 0 };
        // Each CIDR in use hides at most what it overlaps, so a free one is found after as many steps as there are used ones.
        self.scan(pool, mask, start, count).or_else(|| self.scan(pool, mask, 0, start))
    }

    fn scan(&self, pool: &IpNet, mask: u8, from: Number, to: Number) -> Option<(Number, IpNet)> {
        let mut index = from;
        while index < to {
            let cidr = nth(pool, mask, index)?;
            match self.overlapping(&cidr) {
                None => return Some((index, cidr)),
                // A wider one: go on behind it.
                Some(other) if other.prefix_len() < mask => {
                    index = index_of(pool, mask, other.broadcast())?.checked_add(1)?;
                }
                Some(_) => index += 1,
            }
        }
        None
    }

    /// One that is used and shares an address with `cidr`; the widest there is.
    fn overlapping(&self, cidr: &IpNet) -> Option<IpNet> {
        let found = [overlap(&self.ledgers, cidr), overlap(&self.pinned, cidr)];
        found.into_iter().flatten().min_by_key(IpNet::prefix_len)
    }
}

fn overlap<V>(used: &BTreeMap<IpNet, V>, cidr: &IpNet) -> Option<IpNet> {
    let mut wider = Some(*cidr);
    while let Some(net) = wider {
        if used.contains_key(&net) {
            return Some(net);
        }
        wider = net.supernet();
    }
    // Networks are ordered by address and then by length: the first one behind is inside, or none is.
    let inside = used.range(*cidr..).next().map(|(found, _)| *found);
    inside.filter(|found| cidr.contains(found))
}

fn nth(pool: &IpNet, mask: u8, index: Number) -> Option<IpNet> {
    match pool {
        IpNet::V4(net) => {
            let shifted = u32::try_from(index).ok()?.checked_shl(u32::from(32 - mask)).unwrap_or(0);
            let address = u32::from(net.network()).checked_add(shifted)?;
            Ipv4Net::new(address.into(), mask).ok().map(IpNet::V4)
        }
        IpNet::V6(net) => {
            let shifted = index.checked_shl(u32::from(128 - mask)).unwrap_or(0);
            let address = u128::from(net.network()).checked_add(shifted)?;
            Ipv6Net::new(address.into(), mask).ok().map(IpNet::V6)
        }
    }
}

fn index_of(pool: &IpNet, mask: u8, address: IpAddr) -> Option<Number> {
    match (pool, address) {
        (IpNet::V4(net), IpAddr::V4(v4)) => {
            let offset = u32::from(v4).checked_sub(net.network().into())?;
            Some(Number::from(offset.checked_shr(u32::from(32 - mask)).unwrap_or(0)))
        }
        (IpNet::V6(net), IpAddr::V6(v6)) => {
            let offset = u128::from(v6).checked_sub(net.network().into())?;
            Some(offset.checked_shr(u32::from(128 - mask)).unwrap_or(0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(pools: &[&str], mask: u8) -> Cidrs {
        let ipv4_cidrs = pools.iter().map(|pool| pool.parse().unwrap()).collect();
        Cidrs::new(ClusterPool { ipv4_cidrs, ipv4_mask: mask, ..ClusterPool::default() })
    }

    fn choose(cidrs: &mut Cidrs, node: &str) -> String {
        cidrs.choose(false, &node.into()).map_or_else(|| "none".into(), |cidr| cidr.to_string())
    }

    fn used(list: &[(&str, &str)]) -> Vec<(IpNet, Arc<str>)> {
        list.iter().map(|(cidr, node)| (cidr.parse().unwrap(), Arc::from(*node))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pools_are_used_in_order_and_to_the_end() {
        let mut cidrs = cidrs(&["10.0.0.0/23", "10.9.0.0/24"], 24);
        let all: Vec<_> = ["a", "b", "b", "c", "d"].iter().map(|node| choose(&mut cidrs, node)).collect();
        assert_eq!(all, ["10.0.0.0/24", "10.0.1.0/24", "10.0.1.0/24", "10.9.0.0/24", "none"]);
        let echo = used(&[("10.0.0.0/24", "a"), ("10.0.1.0/24", "b"), ("10.9.0.0/24", "c")]);
        cidrs.set_ledgers(&echo);
        assert_eq!(choose(&mut cidrs, "d"), "none");
        cidrs.set_ledgers(&echo[1..]);
        assert_eq!(choose(&mut cidrs, "d"), "10.0.0.0/24", "node a is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn choices_count_until_their_echo_or_until_they_cannot_come_any_more() {
        let mut cidrs = cidrs(&["10.0.0.0/24"], 24);
        cidrs.pin("10.0.0.0/24".parse().unwrap(), &"old".into());
        cidrs.set_ledgers(&[]);
        assert_eq!(choose(&mut cidrs, "a"), "none", "the snapshot is older than what was read");
        tokio::time::advance(PINNED).await;
        cidrs.set_ledgers(&[]);
        assert_eq!(choose(&mut cidrs, "a"), "10.0.0.0/24");
    }

    #[tokio::test]
    async fn what_was_freed_is_not_given_at_once() {
        let mut cidrs = cidrs(&["10.0.0.0/22"], 24);
        assert_eq!(choose(&mut cidrs, "a"), "10.0.0.0/24");
        cidrs.set_ledgers(&used(&[("10.0.0.0/24", "a")]));
        cidrs.set_ledgers(&[]);
        assert_eq!(choose(&mut cidrs, "b"), "10.0.1.0/24");
    }

    #[tokio::test]
    async fn wider_and_narrower_ones_in_use_are_respected() {
        let mut cidrs = cidrs(&["10.0.0.0/16"], 24);
        let others = [("10.0.0.0/20", "w"), ("10.0.16.128/25", "n"), ("10.0.17.0/32", "o"), ("192.168.0.0/16", "e")];
        cidrs.set_ledgers(&used(&others));
        assert_eq!(choose(&mut cidrs, "a"), "10.0.18.0/24");
    }

    #[tokio::test]
    async fn a_pool_all_in_use_ends_quickly() {
        let mut cidrs = cidrs(&["10.0.0.0/8"], 29);
        cidrs.set_ledgers(&used(&[("10.0.0.0/8", "wide")]));
        assert_eq!(choose(&mut cidrs, "a"), "none");
        let mut whole = self::cidrs(&["10.0.0.0/24"], 24);
        assert_eq!([choose(&mut whole, "a"), choose(&mut whole, "b")], ["10.0.0.0/24", "none"]);
    }

    #[tokio::test]
    async fn ipv6() {
        let pools =
            ClusterPool { ipv6_cidrs: vec!["fd00::/104".parse().unwrap()], ipv6_mask: 120, ..ClusterPool::default() };
        let mut cidrs = Cidrs::new(pools);
        assert_eq!(cidrs.choose(true, &"a".into()).unwrap().to_string(), "fd00::/120");
        assert_eq!(cidrs.choose(true, &"b".into()).unwrap().to_string(), "fd00::100/120");
    }
}
