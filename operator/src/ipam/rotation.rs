//! Which of the free addresses is next: the one that has been free longest, as far as this process knows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// A node's free addresses in order. Addresses are given in turn, so one that was just freed comes last; those that this
/// process saw being freed come after all that it has never seen used.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    nodes: HashMap<Arc<str>, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Per range (its first address): the last address that was given.
    last: BTreeMap<IpAddr, IpAddr>,
    /// Freed here, longest ago first.
    freed: VecDeque<IpAddr>,
}

impl Rotation {
    /// An address of `node` was freed.
    pub fn freed(&mut self, node: &Arc<str>, address: IpAddr) {
        let node = self.nodes.entry(Arc::clone(node)).or_default();
        node.freed.retain(|known| *known != address);
        node.freed.push_back(address);
    }

    /// The node is gone.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Takes the next address of the range that `is_free`.
    pub fn take(
        &mut self,
        node: &Arc<str>,
        (first, last): (IpAddr, IpAddr),
        is_free: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let node = self.nodes.entry(Arc::clone(node)).or_default();
        let fresh = |address: IpAddr| is_free(address) && !node.freed.contains(&address);
        let start = node.last.get(&first).and_then(|last| next(*last)).filter(|next| (first..=last).contains(next));
        let start = start.unwrap_or(first);
        let address = find(start, last, &fresh)
            .or_else(|| find(first, start, &fresh))
            .or_else(|| node.freed.iter().copied().find(|a| (first..=last).contains(a) && is_free(*a)))?;
        node.freed.retain(|known| *known != address);
        node.last.insert(first, address);
        Some(address)
    }
}

fn find(first: IpAddr, last: IpAddr, is_free: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut address = first;
    loop {
        if is_free(address) {
            return Some(address);
        }
        if address >= last {
            return None;
        }
        address = next(address)?;
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_go_round_and_the_longest_free_comes_first() {
        let node: Arc<str> = "n".into();
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let (mut rotation, mut used) = (Rotation::default(), BTreeSet::new());
        let take = |rotation: &mut Rotation, used: &mut BTreeSet<IpAddr>| {
            let taken = rotation.take(&node, (ip(2), ip(5)), |address| !used.contains(&address));
            used.extend(taken);
            taken
        };
        assert_eq!(take(&mut rotation, &mut used), Some(ip(2)));
        assert_eq!(take(&mut rotation, &mut used), Some(ip(3)));
        used.remove(&ip(3));
        rotation.freed(&"n".into(), ip(3));
        used.remove(&ip(2));
        rotation.freed(&"n".into(), ip(2));
        let order: Vec<_> = (0..4).map(|_| take(&mut rotation, &mut used)).collect();
        assert_eq!(order, [4, 5, 3, 2].map(|last| Some(ip(last))));
        assert_eq!(take(&mut rotation, &mut used), None);
    }
}
