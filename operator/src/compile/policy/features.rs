//! What a node must understand, or leave a policy closed.

use axoneme_proto::nodesync::Feature;
use axoneme_proto::tables::{Action, Policy, PolicyDirection, PortRule, Tier, TierVerdict};

use super::ports::{ICMP, ICMPV6};

/// Bits of `Feature` without which this policy would allow more than it says.
#[must_use]
pub fn required(policy: &Policy) -> u64 {
    let directions = [&policy.ingress, &policy.egress].into_iter().flatten();
    directions.flat_map(rules).map(|rule| tiers(rule) | icmp_types(rule)).fold(0, |all, one| all | one)
}

fn tiers(rule: &PortRule) -> u64 {
    let plain = |verdict: &TierVerdict| (verdict.tier(), verdict.action()) == (Tier::Normal, Action::Allow);
    if rule.verdicts.iter().all(plain) { 0 } else { Feature::Tiers as u64 }
}

fn icmp_types(rule: &PortRule) -> u64 {
    let icmp = [ICMP, ICMPV6].map(u32::from).contains(&rule.protocol);
    if icmp && rule.port_bits > 0 { Feature::IcmpTypes as u64 } else { 0 }
}

fn rules(direction: &PolicyDirection) -> impl Iterator<Item = &PortRule> {
    let peers = direction.peers.iter().flat_map(|peer| &peer.rules);
    let classes = direction.classes.iter();
    peers.chain(classes.flat_map(|class| class.if_pod.iter().chain(&class.if_node).chain(&class.if_world)))
}

#[cfg(test)]
mod tests {
    use axoneme_proto::tables::{CidrClass, PeerRules};

    use super::*;

    fn rule(tier: Tier, action: Action) -> PortRule {
        let verdict = TierVerdict { tier: tier.into(), action: action.into(), ..TierVerdict::default() };
        PortRule { verdicts: vec![verdict], ..PortRule::default() }
    }

    fn to_peer(tier: Tier, action: Action) -> Policy {
        let peer = PeerRules { rules: vec![rule(tier, action)], ..PeerRules::default() };
        let direction = PolicyDirection { enforced: true, peers: vec![peer], ..PolicyDirection::default() };
        Policy { ingress: Some(direction), ..Policy::default() }
    }

    #[test]
    fn what_only_allows_in_one_tier_needs_nothing() {
        assert_eq!(required(&to_peer(Tier::Normal, Action::Allow)), 0);
        assert_eq!(required(&Policy::default()), 0);
    }

    #[test]
    fn what_denies_passes_or_has_another_tier_needs_a_node_that_knows_tiers() {
        for (tier, action) in
            [(Tier::Normal, Action::Deny), (Tier::Admin, Action::Allow), (Tier::Baseline, Action::Pass)]
        {
            assert_eq!(required(&to_peer(tier, action)), Feature::Tiers as u64);
            let class = CidrClass { if_world: vec![rule(tier, action)], ..CidrClass::default() };
            let direction = PolicyDirection { classes: vec![class], ..PolicyDirection::default() };
            let to_cidr = Policy { egress: Some(direction), ..Policy::default() };
            assert_eq!(required(&to_cidr), Feature::Tiers as u64);
        }
    }

    #[test]
    fn a_type_of_icmp_messages_needs_a_node_that_looks_at_it() {
        let verdicts = rule(Tier::Normal, Action::Allow).verdicts;
        let needs = |protocol: u8, port_bits| {
            let rule = PortRule { protocol: protocol.into(), port: 8, port_bits, verdicts: verdicts.clone() };
            let peers = vec![PeerRules { peer: None, rules: vec![rule] }];
            let direction = PolicyDirection { peers, ..PolicyDirection::default() };
            required(&Policy { ingress: Some(direction), ..Policy::default() })
        };
        assert_eq!(needs(ICMP, 16), Feature::IcmpTypes as u64);
        assert_eq!(needs(ICMPV6, 16), Feature::IcmpTypes as u64);
        assert_eq!((needs(ICMP, 0), needs(6, 16)), (0, 0));
    }
}
