//! What a linter calls needless can go: the reference evaluator says so.

use axoneme_proto::tables::PolicyMode;
use proptest::prelude::*;

use super::{Code, lint};
use crate::compile::policy::oracle::{Packet, Peer, Subject, World};
use crate::compile::policy::worlds::{self, HERE, world};
use crate::diff::{Settings, State};
use crate::object::{Direction, Kind, ObjectKey, PolicyType};

/// A world, and what is left when rules that a linter calls needless, or about nobody, are taken away.
fn check_lint(mut world: World) -> Result<(), TestCaseError> {
    for pod in &mut world.pods {
        pod.ips = [pod.ips[0]].into();
        pod.node = Some(HERE.into());
    }
    for policy in &mut world.cilium {
        (0..).zip(&mut policy.rules).for_each(|(i, rule): (u8, _)| rule.field = format!("specs[{i}]").into());
    }
    let mut state = State::default();
    worlds::objects(&world).into_iter().for_each(|object| state.insert(object));
    let cidrs_of = worlds::config(&world).cidrs_of;
    let host_firewall = world.host_firewall.clone();
    let settings = Settings { cluster: "default".into(), mode: PolicyMode::Default, cidrs_of, host_firewall };
    let mut rules: Vec<(ObjectKey, String)> = lint(&state, &settings)
        .into_iter()
        .filter(|finding| matches!(finding.code, Code::Shadowed | Code::Redundant | Code::NeverMatches))
        .map(|finding| (finding.policy, finding.field))
        .collect();
    // From the last on, so that the places of those before stay.
    rules.sort_by(|a, b| (&a.0, place(&b.1)).cmp(&(&b.0, place(&a.1))));
    let mut left = world.clone();
    rules.iter().for_each(|(policy, field)| take_away(&mut left, policy, field));
    let (enforcing_all, left_enforcing_all) = (world.enforcing_all(), left.enforcing_all());
    for subject in world.pods.iter().map(Subject::Pod).chain(world.nodes.iter().map(Subject::Node)) {
        let another = |peer: &Peer<'_>| match (subject, peer) {
            (Subject::Pod(subject), Peer::Pod(pod)) => pod.name != subject.name,
            (Subject::Node(_), Peer::Host) => false,
            _ => true,
        };
        let here = if let Subject::Node(node) = subject { &node.name } else { HERE };
        let identities = vec![0; world.pods.len()];
        let peers =
            worlds::peers(&world, &identities, here).into_iter().map(|(who, peer)| (who, peer.address.unwrap()));
        for (peer, address) in peers.filter(|(who, _)| another(who)) {
            for direction in [Direction::Ingress, Direction::Egress] {
                // A node always reaches the pods that it runs.
                if matches!((peer, direction), (Peer::Host, Direction::Ingress)) {
                    continue;
                }
                // ICMP is of one family.
                for (protocol, port) in
                    worlds::packets().filter(|(protocol, _)| *protocol != if address.is_ipv4() { 58 } else { 1 })
                {
                    let packet = Packet { direction, peer, address, protocol, port };
                    for (before, after) in [(&world, &left), (&enforcing_all, &left_enforcing_all)] {
                        let (before, after) = (before.allows(subject, &packet), after.allows(subject, &packet));
                        prop_assert_eq!(before, after, "{} {:?} without {:?}", subject.name(), packet, rules);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The number at the end of `spec.ingress[3]`, and what stands before it.
fn place(field: &str) -> (&str, usize) {
    let (list, number) = field.strip_suffix(']').and_then(|field| field.rsplit_once('[')).unwrap();
    (list, number.parse().unwrap())
}

/// Takes a rule from its policy, which goes on to isolate what it did.
fn take_away(world: &mut World, policy: &ObjectKey, field: &str) {
    fn without<T: Clone>(rules: &mut Box<[T]>, at: usize) {
        let mut kept = rules.to_vec();
        kept.remove(at);
        *rules = kept.into();
    }
    let (list, at) = place(field);
    match policy.kind {
        Kind::NetworkPolicy => {
            let policy = world.policies.iter_mut().find(|one| one.name == policy.name).unwrap();
            if policy.policy_types.as_ref().is_none_or(|types| types.is_empty()) {
                let egress = (!policy.egress.is_empty()).then_some(PolicyType::Egress);
                policy.policy_types = Some(std::iter::once(PolicyType::Ingress).chain(egress).collect());
            }
            without(if list == "spec.ingress" { &mut policy.ingress } else { &mut policy.egress }, at);
        }
        Kind::ClusterNetworkPolicy => {
            // Its place stays, by which those after it count.
            let policy = world.tiered.iter_mut().find(|one| one.name == policy.name.name).unwrap();
            let rules = if list == "spec.ingress" { &mut policy.ingress } else { &mut policy.egress };
            rules[at].peers = [].into();
        }
        _ => {
            let policy = world.cilium.iter_mut().find(|one| one.name == policy.name).unwrap();
            let (of, list) = list.rsplit_once('.').unwrap();
            let rule = &mut policy.rules.iter_mut().find(|rule| *rule.field == *of).unwrap().rule;
            let ingress = rule.ingress.iter().flatten().count() + rule.ingress_deny.iter().flatten().count() > 0;
            let egress = rule.egress.iter().flatten().count() + rule.egress_deny.iter().flatten().count() > 0;
            let wanted = rule.enable_default_deny.get_or_insert_default();
            wanted.ingress.get_or_insert(ingress);
            wanted.egress.get_or_insert(egress);
            match list {
                "ingress" => drop(rule.ingress.as_mut().unwrap().remove(at)),
                "ingressDeny" => drop(rule.ingress_deny.as_mut().unwrap().remove(at)),
                "egress" => drop(rule.egress.as_mut().unwrap().remove(at)),
                _ => drop(rule.egress_deny.as_mut().unwrap().remove(at)),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_linter_calls_needless_changes_nothing_when_it_is_gone(world in world()) {
        check_lint(world)?;
    }
}
