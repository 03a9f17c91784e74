//! What a node must understand, or leave a policy closed.

use axoneme_proto::nodesync::Feature;
use axoneme_proto::tables::{Action, Policy, PolicyDirection, PortRule, Tier};

/// Bits of `Feature` without which this policy would allow more than it says.
#[must_use]
pub fn required(policy: &Policy) -> u64 {
    let directions = [&policy.ingress, &policy.egress].into_iter().flatten();
    let tiers = directions
        .flat_map(rules)
        .flat_map(|rule| &rule.verdicts)
        .any(|verdict| verdict.tier != i32::from(Tier::Normal) || verdict.action != i32::from(Action::Allow));
    if tiers { Feature::Tiers as u64 } else { 0 }
}

fn rules(direction: &PolicyDirection) -> impl Iterator<Item = &PortRule> {
    let peers = direction.peers.iter().flat_map(|peer| &peer.rules);
    let classes = direction.classes.iter();
    peers.chain(classes.flat_map(|class| class.if_pod.iter().chain(&class.if_node).chain(&class.if_world)))
}

#[cfg(test)]
mod tests {
    use axoneme_proto::tables::{CidrClass, PeerRules, TierVerdict};

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
}
