//! How a pod CIDR is divided, and the pool rows that tell a node so.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::object::{CiliumNode, DEFAULT_POOL, NodePool};

/// Kubernetes' default when a node does not say how many pods it takes.
const DEFAULT_MAX_PODS: u32 = 110;

/// The parts of a pod CIDR. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The node's own address in the overlay (`CiliumInternalIP`): the first usable one.
    pub overlay: IpAddr,
    /// What the operator assigns from; none when the CIDR is too small.
    pub assignable: Option<(IpAddr, IpAddr)>,
    /// What the node alone assigns from while no operator answers.
    pub reserve: Option<(IpAddr, IpAddr)>,
}

/// Divides `cidr` of a node that takes `max_pods` pods (0: unknown): network address, overlay address, as many addresses as
/// pods but at most seven eighths, and the reserve; an IPv4 broadcast address is left alone. `None` when not even the overlay
/// address fits.
#[must_use]
pub fn split(cidr: &IpNet, max_pods: u32) -> Option<Split> {
    let first = number(cidr.network());
    let last = match cidr {
        IpNet::V4(net) if net.prefix_len() < 31 => number(cidr.broadcast()).checked_sub(1)?,
        _ => number(cidr.broadcast()),
    };
    let overlay = first.checked_add(1).filter(|overlay| *overlay <= last)?;
    let usable = last - overlay;
    let max_pods = if max_pods == 0 { DEFAULT_MAX_PODS } else { max_pods };
    let assign = u128::from(max_pods).min(usable - usable.div_ceil(8));
    let address = |n| address(n, cidr.network());
    Some(Split {
        overlay: address(overlay),
        assignable: (assign > 0).then(|| (address(overlay + 1), address(overlay + assign))),
        reserve: (usable > assign).then(|| (address(overlay + assign + 1), address(last))),
    })
}

/// What one of a node's CIDRs is for. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The pool that it is of.
    pub pool: &'a str,
    /// The CIDR.
    pub cidr: IpNet,
    /// The node's own address in the overlay, in the CIDR that has it.
    pub overlay: Option<IpAddr>,
    /// What the operator assigns from.
    pub assignable: Option<(IpAddr, IpAddr)>,
    /// What the node alone assigns from while no operator answers.
    pub reserve: Option<(IpAddr, IpAddr)>,
}

impl Part<'_> {
    /// How many addresses the operator may assign.
    #[must_use]
    pub fn assignable_count(&self) -> u128 {
        self.assignable.map_or(0, |(first, last)| number(last) - number(first) + 1)
    }
}

/// The parts of all CIDRs that a node has. With `multi_pool`, what it was given in another mode keeps its overlay address, and no
/// pod is given any more of it. Only the default pool has a reserve, because a node that is on its own does not know which pool
/// a pod asks for.
#[must_use]
pub fn parts(ledger: &CiliumNode, max_pods: u32, multi_pool: bool) -> Vec<Part<'_>> {
    let whole = |cidr: &IpNet| {
        let split = split(cidr, max_pods)?;
        let part =
            Part { pool: DEFAULT_POOL, cidr: *cidr, overlay: Some(split.overlay), assignable: None, reserve: None };
        Some(if multi_pool { part } else { Part { assignable: split.assignable, reserve: split.reserve, ..part } })
    };
    let mut parts: Vec<Part<'_>> = ledger.pod_cidrs.iter().filter_map(whole).collect();
    for pool in &ledger.pools {
        for cidr in &pool.cidrs {
            let default = *pool.name == *DEFAULT_POOL;
            let same_family =
                |part: &Part<'_>| part.overlay.is_some() && part.cidr.addr().is_ipv6() == cidr.addr().is_ipv6();
            let overlay = default && !parts.iter().any(same_family);
            parts.push(part(pool, cidr, overlay, default));
        }
    }
    parts
}

/// A node's addresses in the overlay: one a family, of the first CIDR that has room for it.
#[must_use]
pub fn overlays(ledger: &CiliumNode, max_pods: u32, multi_pool: bool) -> Vec<IpAddr> {
    let parts = parts(ledger, max_pods, multi_pool);
    let first = |v6: bool| parts.iter().filter_map(|part| part.overlay).find(|overlay| overlay.is_ipv6() == v6);
    [false, true].into_iter().filter_map(first).collect()
}

fn part<'a>(pool: &'a NodePool, cidr: &IpNet, with_overlay: bool, with_reserve: bool) -> Part<'a> {
    let (mut first, mut last) = (number(cidr.network()), number(cidr.broadcast()));
    if last - first > 1 {
        first += u128::from(!pool.allow_first_ip);
        last -= u128::from(!pool.allow_last_ip);
    }
    let address = |n| address(n, cidr.network());
    let overlay = with_overlay.then(|| address(first));
    // Counted from the first one to the last, of which there may be none.
    let (first, count) =
        if with_overlay { (first + 1, last - first) } else { (first, (last - first).saturating_add(1)) };
    // Each has one for a pod, so that it makes sense to be given more of them.
    let kept = if with_reserve && count > 1 { count.div_ceil(8) } else { 0 };
    let range = |first: u128, count: u128| (count > 0).then(|| (address(first), address(first + count - 1)));
    Part {
        pool: &pool.name,
        cidr: *cidr,
        overlay,
        assignable: range(first, count - kept),
        reserve: range(first + (count - kept), kept),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, family: IpAddr) -> IpAddr {
    match family {
        // Every number here lies inside an IPv4 network, so nothing is cut off.
        IpAddr::V4(_) => IpAddr::V4((number as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(cidr: &str, max_pods: u32) -> Vec<String> {
        let Some(split) = split(&cidr.parse().unwrap(), max_pods) else { return vec![] };
        let range = |r: Option<(IpAddr, IpAddr)>| r.map_or("-".to_owned(), |(a, b)| format!("{a}..{b}"));
        vec![split.overlay.to_string(), range(split.assignable), range(split.reserve)]
    }

    #[test]
    fn cidrs_are_divided() {
        assert_eq!(parts("10.0.1.0/24", 110), ["10.0.1.1", "10.0.1.2..10.0.1.111", "10.0.1.112..10.0.1.254"]);
        assert_eq!(parts("10.0.1.0/24", 0), parts("10.0.1.0/24", 110));
        assert_eq!(parts("10.0.1.0/24", 250), ["10.0.1.1", "10.0.1.2..10.0.1.222", "10.0.1.223..10.0.1.254"]);
        assert_eq!(parts("10.0.1.0/30", 110), ["10.0.1.1", "-", "10.0.1.2..10.0.1.2"]);
        assert_eq!(parts("10.0.1.0/31", 110), ["10.0.1.1", "-", "-"]);
        assert_eq!(parts("10.0.1.0/32", 110), Vec::<String>::new());
        assert_eq!(parts("fd00::/112", 250), ["fd00::1", "fd00::2..fd00::fb", "fd00::fc..fd00::ffff"]);
        assert_eq!(parts("::/0", 1), ["::1", "::2..::2", "::3..ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }
}
