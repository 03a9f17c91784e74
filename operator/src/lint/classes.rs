//! Addresses that the same prefixes contain.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses of both families, in classes: two of one class are in the same prefixes.
#[derive(Debug)]
pub(super) struct Classes {
    /// Where a class begins; it goes on to the next entry, or to the family's end.
    starts: BTreeMap<IpAddr, usize>,
    /// One address of each class.
    pub(super) representatives: Vec<IpAddr>,
}

impl Classes {
    /// Those that `nets` make. A number stands for all nets that have it.
    pub(super) fn of(nets: &[(usize, IpNet)]) -> Self {
        let mut ends: BTreeMap<IpAddr, Vec<(usize, i32)>> = BTreeMap::new();
        for first in [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
            ends.entry(first).or_default();
        }
        for (number, net) in nets {
            ends.entry(net.network()).or_default().push((*number, 1));
            if let Some(next) = next(net.broadcast()) {
                ends.entry(next).or_default().push((*number, -1));
            }
        }
        let mut classes = Self { starts: BTreeMap::new(), representatives: Vec::new() };
        let mut known: BTreeMap<(bool, Vec<usize>), usize> = BTreeMap::new();
        let mut around: BTreeMap<usize, i32> = BTreeMap::new();
        for (start, changes) in ends {
            if start == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
                around.clear();
            }
            for (number, change) in changes {
                *around.entry(number).or_default() += change;
            }
            let within: Vec<usize> =
                around.iter().filter(|(_, count)| **count > 0).map(|(number, _)| *number).collect();
            // A family is told from the other even where no prefix does.
            let class = *known.entry((start.is_ipv6(), within)).or_insert_with(|| {
                classes.representatives.push(start);
                classes.representatives.len() - 1
            });
            classes.starts.insert(start, class);
        }
        classes
    }

    /// The class of an address.
    pub(super) fn class_of(&self, address: IpAddr) -> Option<usize> {
        self.starts.range(..=address).next_back().map(|(_, class)| *class)
    }
}

/// The address after this one in its family.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
}

/// A part of `net` that no net of `within` contains, if there is one.
pub(super) fn outside(net: IpNet, within: &[IpNet]) -> Option<IpNet> {
    if within.iter().any(|wide| wide.contains(&net)) {
        return None;
    }
    if !within.iter().any(|narrow| net.contains(narrow)) {
        return Some(net);
    }
    let mut halves = net.subnets(net.prefix_len() + 1).ok()?;
    halves.find_map(|half| outside(half, within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_between_the_ends_of_a_prefix_is_a_class_too() {
        let nets = [(0, net("10.0.0.0/24")), (1, net("10.0.0.0/30")), (1, net("10.0.0.252/30")), (2, net("fd00::/16"))];
        let classes = Classes::of(&nets);
        let class = |text: &str| classes.class_of(text.parse().unwrap()).unwrap();
        assert_eq!(class("10.0.0.1"), class("10.0.0.255"));
        assert_ne!(class("10.0.0.1"), class("10.0.0.4"));
        assert_eq!(class("9.255.255.255"), class("10.0.1.0"));
        assert_ne!(class("fd00::1"), class("fd01::1"));
        assert_ne!(class("::"), class("0.0.0.0"), "families are told apart");
        assert_eq!(classes.representatives.len(), 5);
        for (class, address) in classes.representatives.iter().enumerate() {
            assert_eq!(classes.class_of(*address), Some(class));
        }
    }

    #[test]
    fn a_prefix_that_ends_its_family_does_not_go_on_in_the_next() {
        let classes = Classes::of(&[(0, net("0.0.0.0/0")), (1, net("255.0.0.0/8"))]);
        let class = |text: &str| classes.class_of(text.parse().unwrap()).unwrap();
        assert_ne!(class("255.1.1.1"), class("::1"));
        assert_eq!(classes.representatives.len(), 3);
    }

    #[test]
    fn exceptions_may_take_all_together() {
        let all = net("192.0.2.0/24");
        assert_eq!(outside(all, &[net("192.0.2.0/25"), net("192.0.2.128/25")]), None);
        assert_eq!(outside(all, &[net("192.0.2.0/25"), net("192.0.2.128/26")]), Some(net("192.0.2.192/26")));
        assert_eq!(outside(all, &[net("10.0.0.0/8")]), Some(all));
        assert_eq!(outside(net("192.0.2.1/32"), &[net("192.0.2.0/31")]), None);
    }
}
