//! How a pod CIDR is divided, and the pool rows that tell a node so.

use std::net::IpAddr;

use ipnet::IpNet;

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
