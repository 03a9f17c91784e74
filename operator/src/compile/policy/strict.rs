//! Whom a policy treats worse than pods at large.

use std::collections::BTreeSet;

use axoneme_proto::tables::{Action, AnyPeer, PeerRules, Policy, PolicyDirection, TierVerdict, peer_rules};

use super::emergency;

/// Identities for which it would be wrong to be taken for an unlisted pod: the policy allows something to pods at large, because it
/// does not isolate, by a rule, or by the CIDR that they are in, and denies something to these or passes them on to a lower tier.
/// While a node does not know the address of a new pod with such an identity, it would let it through; so that pod waits for its
/// peers. Sorted.
///
/// It errs on the careful side: it does not ask whether the ports overlap.
#[must_use]
pub fn excepted(policy: &Policy) -> Vec<u32> {
    let directions = policy.ingress.iter().chain(&policy.egress);
    // What stays open to everybody is open to these, too.
    let emergency = policy.policies.iter().position(|label| label == emergency::LABEL);
    let open = |direction: &&PolicyDirection| open_to_pods(direction, emergency);
    let found: BTreeSet<u32> = directions.filter(open).flat_map(denied).collect();
    found.into_iter().collect()
}

fn open_to_pods(direction: &PolicyDirection, emergency: Option<usize>) -> bool {
    let any_pod = |peers: &&PeerRules| peers.peer == Some(peer_rules::Peer::Any(AnyPeer::Pod.into()));
    let by_scope = direction.peers.iter().filter(any_pod).flat_map(|peers| &peers.rules);
    let by_cidr = direction.classes.iter().flat_map(|class| &class.if_pod);
    let allows = |verdict: &TierVerdict| {
        verdict.action() == Action::Allow && emergency.is_none_or(|emergency| verdict.policy as usize != emergency)
    };
    !direction.enforced || by_scope.chain(by_cidr).flat_map(|rule| &rule.verdicts).any(allows)
}

fn denied(direction: &PolicyDirection) -> impl Iterator<Item = u32> {
    let restricts = |verdict: &TierVerdict| matches!(verdict.action(), Action::Deny | Action::Pass);
    direction.peers.iter().filter_map(move |peers| match peers.peer {
        Some(peer_rules::Peer::Identity(identity))
            if peers.rules.iter().flat_map(|rule| &rule.verdicts).any(restricts) =>
        {
            Some(identity)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use axoneme_proto::tables::{CidrClass, PortRule, Tier};

    use super::*;

    fn rules(verdicts: &[(Tier, Action)]) -> Vec<PortRule> {
        let verdict = |(tier, action): &(Tier, Action)| TierVerdict {
            tier: (*tier).into(),
            action: (*action).into(),
            ..TierVerdict::default()
        };
        vec![PortRule { verdicts: verdicts.iter().map(verdict).collect(), ..PortRule::default() }]
    }

    fn peer(peer: peer_rules::Peer, verdicts: &[(Tier, Action)]) -> PeerRules {
        PeerRules { peer: Some(peer), rules: rules(verdicts) }
    }

    fn ingress(peers: Vec<PeerRules>, classes: Vec<CidrClass>) -> Policy {
        let direction = PolicyDirection { enforced: true, peers, classes, ..PolicyDirection::default() };
        Policy { ingress: Some(direction), ..Policy::default() }
    }

    fn any(scope: AnyPeer, action: Action) -> PeerRules {
        peer(peer_rules::Peer::Any(scope.into()), &[(Tier::Normal, action)])
    }

    fn identity(identity: u32, verdicts: &[(Tier, Action)]) -> PeerRules {
        peer(peer_rules::Peer::Identity(identity), verdicts)
    }

    #[test]
    fn a_deny_beneath_a_wildcard_allow_counts() {
        let deny = [(Tier::Normal, Action::Deny)];
        let policy = |scope, action| ingress(vec![identity(300, &deny), any(scope, action)], vec![]);
        assert_eq!(excepted(&policy(AnyPeer::Pod, Action::Allow)), [300]);
        assert_eq!(excepted(&policy(AnyPeer::World, Action::Allow)), [0; 0], "no pod is the world");
        assert_eq!(excepted(&policy(AnyPeer::Pod, Action::Deny)), [0; 0], "unlisted pods get nothing either");
    }

    #[test]
    fn so_does_a_higher_tier_that_passes_it_on_and_an_allow_by_cidr() {
        let passed = [(Tier::Admin, Action::Pass), (Tier::Normal, Action::Allow)];
        let allowed = [(Tier::Admin, Action::Allow)];
        let peers = vec![identity(300, &passed), identity(301, &allowed)];
        let class = CidrClass { if_pod: rules(&[(Tier::Normal, Action::Allow)]), ..CidrClass::default() };
        assert_eq!(excepted(&ingress(peers.clone(), vec![class])), [300]);
        let world = CidrClass { if_world: rules(&[(Tier::Normal, Action::Allow)]), ..CidrClass::default() };
        assert_eq!(excepted(&ingress(peers, vec![world])), [0; 0]);
    }

    /// Who is denied the rest may use it like others.
    #[test]
    fn what_stays_open_to_everybody_excepts_nobody() {
        let emergency = || any(AnyPeer::Pod, Action::Allow);
        let denied = identity(300, &[(Tier::Normal, Action::Deny)]);
        let named = |label: &str| Policy {
            policies: vec![label.to_owned()],
            ..ingress(vec![denied.clone(), emergency()], vec![])
        };
        assert_eq!(excepted(&named(emergency::LABEL)), [0; 0]);
        assert_eq!(excepted(&named("networkpolicy:default/p")), [300]);
    }

    #[test]
    fn what_isolates_nobody_is_open_to_all_whom_it_does_not_deny() {
        let open = |verdicts: &[(Tier, Action)]| {
            let direction = PolicyDirection { peers: vec![identity(300, verdicts)], ..PolicyDirection::default() };
            Policy { egress: Some(direction), ..Policy::default() }
        };
        assert_eq!(excepted(&open(&[(Tier::Normal, Action::Deny)])), [300]);
        assert_eq!(excepted(&open(&[(Tier::Admin, Action::Deny)])), [300]);
        assert_eq!(excepted(&open(&[(Tier::Normal, Action::Allow)])), [0; 0]);
    }
}
