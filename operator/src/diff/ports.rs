//! Sets of ports as people read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::compile::policy::{PROTOCOLS, PortKey};

/// Stands for every protocol that nobody names.
const OTHER: u8 = 0;
/// A protocol that IANA leaves for experiments: no policy can name it.
const NOBODYS: u8 = 253;

/// Some ports of some protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// Of each protocol that is told apart (IANA number; 0: all others) the first and last ports of what is meant, sorted.
    ranges: BTreeMap<u8, Vec<(u16, u16)>>,
}

impl Ports {
    /// Those for which `meant` holds, of all that `keys` distinguish.
    pub(crate) fn of(keys: impl Iterator<Item = PortKey>, meant: impl Fn(u8, u16) -> bool) -> Self {
        let mut ranges = BTreeMap::new();
        for (protocol, starts) in starts(keys) {
            let asked = asked(protocol);
            let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
            let mut of_protocol: Vec<(u16, u16)> = Vec::new();
            for (first, last) in starts.iter().copied().zip(ends) {
                if !meant(asked, first) {
                    continue;
                }
                match of_protocol.last_mut() {
                    Some(before) if u32::from(before.1) + 1 == u32::from(first) => before.1 = last,
                    _ => of_protocol.push((first, last)),
                }
            }
            ranges.insert(protocol, of_protocol);
        }
        // What is like all others needs no name.
        let other = ranges.get(&OTHER).cloned().unwrap_or_default();
        ranges.retain(|protocol, of_protocol| *protocol == OTHER || *of_protocol != other);
        Self { ranges }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.values().all(Vec::is_empty)
    }

    /// Whether a port (of ICMP a type) of a protocol is among them.
    #[must_use]
    pub fn contains(&self, protocol: u8, port: u16) -> bool {
        let ranges = self.ranges.get(&protocol).or_else(|| self.ranges.get(&OTHER));
        ranges.into_iter().flatten().any(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// The protocols that `keys` distinguish, and of each where ports begin that may be treated otherwise than those before.
fn starts(keys: impl Iterator<Item = PortKey>) -> BTreeMap<u8, BTreeSet<u16>> {
    let mut starts: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::from([(OTHER, BTreeSet::from([0]))]);
    for key in keys {
        let starts = starts.entry(key.protocol).or_default();
        let size = 1_u32 << (16 - u32::from(key.bits.min(16)));
        starts.extend([0, key.port]);
        starts.extend(u16::try_from(u32::from(key.port) + size));
    }
    starts
}

/// A protocol that stands for one of [`starts`].
const fn asked(protocol: u8) -> u8 {
    if protocol == OTHER { NOBODYS } else { protocol }
}

/// Protocols and ports of which each stands for all that `keys` do not tell from it; together they stand for all.
pub(crate) fn packets(keys: impl Iterator<Item = PortKey>) -> Vec<(u8, u16)> {
    let of_protocol =
        |(protocol, starts): (u8, BTreeSet<u16>)| starts.into_iter().map(move |port| (asked(protocol), port));
    starts(keys).into_iter().flat_map(of_protocol).collect()
}

/// Like `80/TCP, 8000-8080/TCP, all UDP`, or `all but 80/TCP`.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.ranges.get(&OTHER).is_some_and(|ranges| !ranges.is_empty());
        let mut parts = Vec::new();
        for (protocol, ranges) in self.ranges.iter().filter(|(protocol, _)| **protocol != OTHER) {
            let name = protocol_name(*protocol);
            let told = if all { complement(ranges) } else { ranges.clone() };
            parts.extend(told.into_iter().map(|range| match range {
                (0, u16::MAX) => format!("all {name}"),
                (first, last) if first == last => format!("{first}/{name}"),
                (first, last) => format!("{first}-{last}/{name}"),
            }));
        }
        match (all, parts.is_empty()) {
            (true, true) => f.write_str("all"),
            (true, false) => write!(f, "all but {}", parts.join(", ")),
            (false, _) => f.write_str(&parts.join(", ")),
        }
    }
}

fn complement(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut left = Vec::new();
    let mut next = Some(0_u16);
    for (first, last) in ranges {
        if let Some(from) = next.filter(|from| from < first) {
            left.push((from, first - 1));
        }
        next = last.checked_add(1);
    }
    left.extend(next.map(|from| (from, u16::MAX)));
    left
}

pub(crate) fn protocol_name(protocol: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    known.map_or(protocol.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Protocol;

    #[test]
    fn ports_are_told_as_briefly_as_can_be() {
        fn keys(keys: &[PortKey]) -> impl Iterator<Item = PortKey> {
            keys.iter().copied()
        }
        let (http, udp) = (PortKey::one(Protocol::Tcp, 80), PortKey::all(Protocol::Udp));
        let only = Ports::of(keys(&[http, udp]), |protocol, port| (protocol, port) == (6, 80));
        assert_eq!(only.to_string(), "80/TCP");
        assert!(only.contains(6, 80) && !only.contains(6, 81) && !only.contains(17, 80));
        let but = Ports::of(keys(&[http, udp]), |protocol, port| (protocol, port) != (6, 80) && protocol != 17);
        assert_eq!(but.to_string(), "all but 80/TCP, all UDP");
        assert!(!but.contains(6, 80) && but.contains(6, 81) && !but.contains(17, 1) && but.contains(132, 1));
        assert_eq!(Ports::of(keys(&[http]), |_, _| true).to_string(), "all");
        let range = PortKey::range(Protocol::Tcp, 1000, 1999);
        let ranges = Ports::of(range.clone().into_iter().chain([http]), |protocol, port| {
            protocol == 6 && (1000..2000).contains(&port)
        });
        assert_eq!(ranges.to_string(), "1000-1999/TCP");
        assert!(Ports::of(range.into_iter(), |_, _| false).is_empty());
    }
}
