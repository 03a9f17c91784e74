//! Addresses that the node assigns itself when no operator answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::desired::pods::ReserveSpec;

/// Remembers which addresses were freed, so that the one that was free for longest is taken.
#[derive(Debug, Default)]
pub struct Reserve {
    freed: HashMap<IpAddr, u64>,
    clock: u64,
}

/// No address is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node's reserve of addresses is used up, and no operator is connected that could assign others")]
pub struct Exhausted;

impl Reserve {
    /// Takes an address of every family that has a range.
    ///
    /// # Errors
    /// When a family has no free one.
    pub fn take(&self, spec: &ReserveSpec, in_use: impl Fn(IpAddr) -> bool) -> Result<Vec<IpAddr>, Exhausted> {
        let mut addresses = Vec::new();
        for ipv4 in [true, false] {
            let ranges: Vec<_> = spec.ranges.iter().filter(|(first, _)| first.is_ipv4() == ipv4).collect();
            if ranges.is_empty() {
                continue;
            }
            let candidates = ranges.iter().flat_map(|(first, last)| range(*first, *last));
            addresses.push(self.choose(candidates.filter(|&address| !in_use(address))).ok_or(Exhausted)?);
        }
        if addresses.is_empty() { Err(Exhausted) } else { Ok(addresses) }
    }

    /// An address is free from now on.
    pub fn free(&mut self, address: IpAddr) {
        self.clock += 1;
        self.freed.insert(address, self.clock);
    }

    fn choose(&self, candidates: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        let mut oldest: Option<(u64, IpAddr)> = None;
        for address in candidates {
            match self.freed.get(&address) {
                None => return Some(address),
                Some(&freed) if oldest.is_none_or(|(earlier, _)| freed < earlier) => oldest = Some((freed, address)),
                Some(_) => {}
            }
        }
        oldest.map(|(_, address)| address)
    }
}

/// All addresses from `first` to `last`; none if they are of different families.
fn range(first: IpAddr, last: IpAddr) -> Box<dyn Iterator<Item = IpAddr>> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Box::new((u32::from(first)..=u32::from(last)).map(|bits| Ipv4Addr::from(bits).into()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Box::new((u128::from(first)..=u128::from(last)).map(|bits| Ipv6Addr::from(bits).into()))
        }
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(ranges: &[(&str, &str)]) -> ReserveSpec {
        let parse = |(first, last): &(&str, &str)| (first.parse().unwrap(), last.parse().unwrap());
        ReserveSpec {
            ranges: ranges.iter().map(parse).collect(),
            identity: 5,
            policy_index: 0,
            gateways: vec![],
            mtu: 1450,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_a_family_and_the_longest_free_one_first() {
        let spec = spec(&[("10.0.0.224", "10.0.0.226"), ("fd00::e0", "fd00::ff")]);
        let mut reserve = Reserve::default();
        assert_eq!(reserve.take(&spec, |_| false), Ok(vec![ip("10.0.0.224"), ip("fd00::e0")]));
        for freed in ["10.0.0.225", "10.0.0.224", "10.0.0.226"] {
            reserve.free(ip(freed));
        }
        assert_eq!(reserve.take(&spec, |_| false).map(|a| a[0]), Ok(ip("10.0.0.225")));
        assert_eq!(reserve.take(&spec, |a| a == ip("10.0.0.225")).map(|a| a[0]), Ok(ip("10.0.0.224")));
    }

    #[test]
    fn no_reserve_or_none_left_is_told() {
        assert_eq!(Reserve::default().take(&spec(&[("10.0.0.1", "10.0.0.1")]), |_| true), Err(Exhausted));
        assert_eq!(Reserve::default().take(&spec(&[]), |_| false), Err(Exhausted));
    }
}
