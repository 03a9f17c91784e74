//! Ports as the kernel looks them up: one prefix of (protocol, port), the longest match decides.

use axoneme_proto::tables::{Action, PortRule, TierVerdict};

use crate::object::Protocol;

/// IANA numbers of ICMP for IPv4 and IPv6.
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;
/// Of those without ports.
pub const IGMP: u8 = 2;
/// See [`IGMP`].
pub const VRRP: u8 = 112;

/// Protocols that people name, with their IANA numbers.
pub const PROTOCOLS: [(&str, u8); 7] =
    [("TCP", 6), ("UDP", 17), ("SCTP", 132), ("ICMP", ICMP), ("ICMPv6", ICMPV6), ("IGMP", IGMP), ("VRRP", VRRP)];

/// A prefix of (protocol, port). Ordered so that a wider one comes before those it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// IANA number; 0: any protocol, then there is no port.
    pub protocol: u8,
    /// The first port.
    pub port: u16,
    /// How many leading bits count.
    pub bits: u8,
}

impl PortKey {
    /// Every protocol and port.
    pub const ANY: Self = Self { protocol: 0, port: 0, bits: 0 };

    /// All ports of one protocol.
    #[must_use]
    pub const fn all(protocol: Protocol) -> Self {
        Self { protocol: protocol.number(), port: 0, bits: 0 }
    }

    /// One port.
    #[must_use]
    pub const fn one(protocol: Protocol, port: u16) -> Self {
        Self { protocol: protocol.number(), port, bits: 16 }
    }

    /// One type of ICMP messages: it stands where others have a port.
    #[must_use]
    pub const fn icmp(number: u8, v6: bool) -> Self {
        Self { port: number as u16, bits: 16, ..Self::all_icmp(v6) }
    }

    /// All ICMP messages of a family.
    #[must_use]
    pub const fn all_icmp(v6: bool) -> Self {
        Self { protocol: if v6 { ICMPV6 } else { ICMP }, port: 0, bits: 0 }
    }

    /// The fewest prefixes that make up the ports `first..=last`.
    #[must_use]
    pub fn range(protocol: Protocol, first: u16, last: u16) -> Vec<Self> {
        let mut keys = Vec::new();
        let (mut next, end) = (u32::from(first), u32::from(last) + 1);
        while next < end {
            // The largest block that starts here: limited by alignment and by what is left.
            let block = (1 << next.trailing_zeros().min(16)).min(1 << (31 - (end - next).leading_zeros()));
            let bits = 16 - u32::trailing_zeros(block);
            keys.push(Self { protocol: protocol.number(), port: next as u16, bits: bits as u8 });
            next += block;
        }
        keys
    }

    /// Whether every packet that `other` matches is matched by this one too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        if self.protocol == 0 {
            return true;
        }
        let mask = u16::MAX.checked_shl(16 - u32::from(self.bits)).unwrap_or(0);
        self.protocol == other.protocol && self.bits <= other.bits && (other.port & mask) == self.port
    }
}

/// A port that a policy names; who has a container port of this name and protocol decides its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// The container port's name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The ports of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// By number.
    pub keys: Vec<PortKey>,
    /// By name.
    pub named: Vec<NamedPort>,
}

/// Flattens rules: every key that occurs once, with the verdicts of all that contain it, tier by tier; keys that say the same
/// as the next wider one are left out. Sorted. Takes as long as sorting does.
pub fn flatten(rules: &[(PortKey, TierVerdict)]) -> Vec<PortRule> {
    let mut rules = rules.to_vec();
    rules.sort_unstable_by_key(|(key, _)| *key);
    let mut flat = Vec::new();
    // The keys that contain the one at hand, wider before narrower, with their verdicts. In this order of keys, one that does not
    // contain this one contains none that follows.
    let mut around: Vec<(PortKey, Vec<TierVerdict>)> = Vec::new();
    for alike in rules.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((key, _)) = alike.first().copied() else { continue };
        while around.pop_if(|(wider, _)| !wider.contains(&key)).is_some() {}
        let inherited = around.last().map(|(_, verdicts)| &**verdicts);
        let own = alike.iter().map(|(_, verdict)| verdict);
        let verdicts = merge(inherited.into_iter().flatten().chain(own));
        if !inherited.is_some_and(|inherited| same_decision(inherited, &verdicts)) {
            flat.push(PortRule {
                protocol: key.protocol.into(),
                port: key.port.into(),
                port_bits: key.bits.into(),
                verdicts: verdicts.clone(),
            });
        }
        around.push((key, verdicts));
    }
    flat
}

/// For each tier the verdict that counts: lower order first; at the same order deny, then allow, then pass; then the first policy's
/// first rule.
fn merge<'a>(verdicts: impl Iterator<Item = &'a TierVerdict>) -> Vec<TierVerdict> {
    let mut all: Vec<TierVerdict> = verdicts.copied().collect();
    all.sort_unstable_by_key(|v| (v.tier, v.order, rank(v.action()), v.policy, v.rule));
    all.dedup_by_key(|v| v.tier);
    all
}

/// What goes first at the same order.
pub const fn rank(action: Action) -> u8 {
    match action {
        Action::Deny => 0,
        Action::Allow => 1,
        Action::Pass => 2,
        Action::None => 3,
    }
}

/// Whether two rules decide alike, whoever is named for it.
fn same_decision(a: &[TierVerdict], b: &[TierVerdict]) -> bool {
    let decision = |v: &TierVerdict| (v.tier, v.action, v.order);
    a.iter().map(decision).eq(b.iter().map(decision))
}

/// Whether two lists of port rules decide alike.
pub fn same_rules(a: &[PortRule], b: &[PortRule]) -> bool {
    let key = |rule: &PortRule| (rule.protocol, rule.port, rule.port_bits);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| key(a) == key(b) && same_decision(&a.verdicts, &b.verdicts))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axoneme_proto::tables::{Action, Tier};
    use proptest::prelude::*;

    use super::*;

    fn allow(policy: u32) -> TierVerdict {
        TierVerdict { tier: Tier::Normal.into(), action: Action::Allow.into(), order: 0, policy, rule: 0 }
    }

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        let text = |first, last| -> Vec<String> {
            PortKey::range(Protocol::Tcp, first, last).iter().map(|k| format!("{}/{}", k.port, k.bits)).collect()
        };
        assert_eq!(text(80, 80), ["80/16"]);
        assert_eq!(text(80, 83), ["80/14"]);
        assert_eq!(text(79, 84), ["79/16", "80/14", "84/16"]);
        assert_eq!(text(0, 65_535), ["0/0"]);
        assert_eq!(text(1, 65_535).len(), 16);
        assert_eq!(text(65_535, 65_535), ["65535/16"]);
    }

    #[test]
    fn ranges_cover_exactly_their_ports() {
        for (first, last) in [(0, 0), (1, 1000), (80, 81), (30_000, 32_767), (65_000, 65_535), (1, 65_534)] {
            let keys = PortKey::range(Protocol::Udp, first, last);
            for port in 0..=u16::MAX {
                let hits = keys.iter().filter(|key| key.contains(&PortKey::one(Protocol::Udp, port))).count();
                assert_eq!(hits, usize::from((first..=last).contains(&port)), "{port} in {first}..={last}");
            }
        }
    }

    #[test]
    fn wider_allows_swallow_narrower_ones() {
        let rules = [
            (PortKey::one(Protocol::Tcp, 80), allow(1)),
            (PortKey::one(Protocol::Udp, 53), allow(1)),
            (PortKey::all(Protocol::Tcp), allow(2)),
        ];
        let flat = flatten(&rules);
        let text: Vec<_> =
            flat.iter().map(|r| (r.protocol, r.port, r.port_bits, r.verdicts.first().map(|v| v.policy))).collect();
        assert_eq!(text, [(6, 0, 0, Some(2)), (17, 53, 16, Some(1))]);
    }

    #[test]
    fn a_narrower_deny_keeps_its_place_and_contains_the_wider_tiers() {
        let deny = TierVerdict { tier: Tier::Admin.into(), action: Action::Deny.into(), order: 5, policy: 7, rule: 9 };
        let flat = flatten(&[(PortKey::ANY, allow(0)), (PortKey::one(Protocol::Tcp, 22), deny)]);
        assert_eq!(flat.len(), 2);
        assert_eq!(flat.iter().map(|r| r.verdicts.len()).collect::<Vec<_>>(), [1, 2]);
        let pass = TierVerdict { action: Action::Pass.into(), ..deny };
        assert_eq!(merge([pass, deny].iter()), [deny], "deny goes before others of its order");
    }

    /// What [`flatten`] means, word by word.
    fn definition(rules: &[(PortKey, TierVerdict)]) -> Vec<PortRule> {
        let keys: BTreeSet<PortKey> = rules.iter().map(|(key, _)| *key).collect();
        let verdicts = |key: &PortKey| merge(rules.iter().filter(|(wider, _)| wider.contains(key)).map(|(_, v)| v));
        let next_wider = |key: &PortKey| {
            let wider = keys.iter().filter(|other| *other != key && other.contains(key));
            wider.max_by_key(|other| (other.protocol, other.bits))
        };
        let says_more =
            |key: &&PortKey| next_wider(key).is_none_or(|wider| !same_decision(&verdicts(wider), &verdicts(key)));
        let rule = |key: &PortKey| PortRule {
            protocol: key.protocol.into(),
            port: key.port.into(),
            port_bits: key.bits.into(),
            verdicts: verdicts(key),
        };
        keys.iter().filter(says_more).map(rule).collect()
    }

    /// Of few protocols and ports, so that one contains another.
    fn key() -> impl Strategy<Value = PortKey> {
        let port = prop_oneof![0..8_u16, 65_528..=u16::MAX, any::<u16>()];
        let prefix = (prop_oneof![Just(6), Just(17)], port, prop_oneof![Just(0), 0..=16_u8, 12..=16_u8]);
        let prefix = prefix.prop_map(|(protocol, port, bits)| {
            let mask = u16::MAX.checked_shl(16 - u32::from(bits)).unwrap_or(0);
            PortKey { protocol, port: port & mask, bits }
        });
        prop_oneof![1 => Just(PortKey::ANY), 9 => prefix]
    }

    fn verdict() -> impl Strategy<Value = TierVerdict> {
        let tier = prop::sample::select(vec![Tier::Admin, Tier::Normal, Tier::Baseline]);
        let action = prop::sample::select(vec![Action::Allow, Action::Deny, Action::Pass]);
        (tier, action, 0..3_u32, 0..3_u32, 0..3_u32).prop_map(|(tier, action, order, policy, rule)| TierVerdict {
            tier: tier.into(),
            action: action.into(),
            order,
            policy,
            rule,
        })
    }

    proptest! {
        #[test]
        fn flattened_rules_are_what_is_meant(rules in prop::collection::vec((key(), verdict()), 0..24)) {
            prop_assert_eq!(flatten(&rules), definition(&rules));
        }
    }
}
