//! What is told about policies that make no sense, and what becomes of them.

use super::*;
use crate::engine::Reason;
use crate::object::{
    IpBlock, Kind, NetworkPolicy, Operator, Peer, PolicyPort, PolicyRule, PortRef, Requirement, Selector,
};

fn policy(peers: Vec<Peer>, ports: Vec<PolicyPort>) -> NetworkPolicy {
    NetworkPolicy {
        name: Name::new("default", "p"),
        uid: "u".into(),
        resource_version: "1".into(),
        audits: false,
        pod_selector: Selector::default(),
        ingress: [PolicyRule { peers: peers.into(), ports: ports.into() }].into(),
        egress: [].into(),
        policy_types: None,
    }
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|text| Box::from(*text)).collect();
    Peer { ip_block: Some(IpBlock { cidr: cidr.into(), except }), ..Peer::default() }
}

fn port(port: Option<PortRef>, end_port: Option<i32>) -> PolicyPort {
    PolicyPort { protocol: None, port, end_port }
}

/// The fields that are told, and how many peers and ports are left.
fn result(policy: &NetworkPolicy) -> (Vec<String>, usize, usize) {
    let (parsed, diagnostics) = parse(policy);
    let rules = parsed.ingress.rules;
    let fields = diagnostics.iter().map(|d| d.field.to_string()).collect();
    (fields, rules.iter().map(|r| r.peers.len()).sum(), rules.iter().map(|r| r.ports.keys.len()).sum())
}

#[test]
fn invalid_peers_are_closed_and_named() {
    let good = block("10.0.0.0/8", &[]);
    let table = [
        (block("10.0.0.0/33", &[]), "spec.ingress[0].from[1].ipBlock.cidr", 1),
        (block("10.0.0.0/8", &["x"]), "spec.ingress[0].from[1].ipBlock.except[0]", 1),
        (block("10.0.0.0/8", &["10.1.0.0/16", "11.0.0.0/8"]), "spec.ingress[0].from[1].ipBlock.except[1]", 2),
        (block("10.0.0.0/8", &["0.0.0.0/0"]), "spec.ingress[0].from[1].ipBlock.except[0]", 1),
        (Peer::default(), "spec.ingress[0].from[1]", 1),
        (Peer { pod_selector: Some(Selector::default()), ..good.clone() }, "spec.ingress[0].from[1].ipBlock", 1),
    ];
    for (bad, field, left) in table {
        assert_eq!(result(&policy(vec![good.clone(), bad], vec![])), (vec![field.to_owned()], left, 1), "{field}");
    }
}

#[test]
fn a_rule_whose_peers_are_all_invalid_does_not_become_one_for_everybody() {
    let (parsed, _) = parse(&policy(vec![block("nonsense", &[])], vec![]));
    assert!(parsed.ingress.rules.iter().all(|rule| rule.peers.is_empty()));
}

#[test]
fn invalid_ports_are_closed_and_named() {
    let number = |n| Some(PortRef::Number(n));
    let table = [
        (port(number(0), None), "spec.ingress[0].ports[1].port"),
        (port(number(70_000), None), "spec.ingress[0].ports[1].port"),
        (port(number(80), Some(79)), "spec.ingress[0].ports[1].endPort"),
        (port(number(80), Some(70_000)), "spec.ingress[0].ports[1].endPort"),
        (port(None, Some(80)), "spec.ingress[0].ports[1].endPort"),
        (port(Some(PortRef::Name("http".into())), Some(80)), "spec.ingress[0].ports[1].endPort"),
        (PolicyPort { protocol: Some("ICMP".into()), ..port(None, None) }, "spec.ingress[0].ports[1].protocol"),
    ];
    for (bad, field) in table {
        let policy = policy(vec![], vec![port(number(80), None), bad]);
        assert_eq!(result(&policy), (vec![field.to_owned()], 1, 1), "{field}");
    }
    let only_bad = policy(vec![], vec![port(number(0), None)]);
    assert_eq!(result(&only_bad).2, 0, "a rule without a valid port does not become one for all ports");
}

#[test]
fn labels_that_identities_never_have_are_told() {
    let requirement = |key: &str| Requirement { key: key.into(), operator: Operator::Exists, values: [].into() };
    let selector = |key: &str| Selector { requirements: [requirement(key)].into() };
    let mut policy = policy(
        vec![Peer {
            namespace_selector: Some(selector("kubernetes.io/metadata.name")),
            pod_selector: Some(selector("statefulset.kubernetes.io/pod-name")),
            ip_block: None,
        }],
        vec![],
    );
    policy.pod_selector = selector("pod-template-hash");
    let (_, diagnostics) = parse(&policy);
    let fields: Vec<_> = diagnostics.iter().map(|d| (d.reason, &*d.field)).collect();
    let reason = Reason::LabelNotInIdentity;
    assert_eq!(fields, [(reason, "spec.ingress[0].from[0].podSelector"), (reason, "spec.podSelector")]);
}

#[test]
fn a_subject_that_is_unclear_is_isolated() {
    let mut policy = policy(vec![], vec![]);
    let unknown = Requirement { key: "app".into(), operator: Operator::from_kubernetes("Like"), values: [].into() };
    policy.pod_selector = Selector { requirements: [unknown].into() };
    let (parsed, diagnostics) = parse(&policy);
    assert_eq!(parsed.ingress, ParsedDirection { isolates: true, rules: vec![] });
    let Subjects::Pods(selector) = parsed.subjects else { panic!("{parsed:?}") };
    assert_eq!(selector.requirements.len(), 1, "only its namespace is left");
    assert_eq!(diagnostics.len(), 1);
}

fn empty_index() -> Index {
    let families = crate::engine::Families { v4: true, v6: false };
    let (cluster, ipam, reserved) = ("default".into(), Default::default(), [].into());
    let (pre_allocation, cidrs_of, host_firewall) = (Default::default(), Owners::World, None);
    Index::new(crate::index::Config { cluster, families, ipam, reserved, pre_allocation, cidrs_of, host_firewall })
}

fn part(name: &str) -> PolicyPart {
    PolicyPart { policy: ObjectKey::namespaced(Kind::NetworkPolicy, &Name::new("default", name)), index: 0 }
}

#[test]
fn every_verdict_names_its_policy_and_rule() {
    let rule = |cidr: &str| PolicyRule { peers: [block(cidr, &[])].into(), ports: [].into() };
    let first = policy(vec![block("10.0.0.0/24", &[])], vec![]);
    let rules = ["10.0.1.0/24", "10.0.2.0/24"].map(rule);
    let second = NetworkPolicy { egress: rules.clone().into(), ingress: rules.into(), ..first.clone() };
    let parts = [part("first"), part("second")];
    let parsed = [parse(&first).0, parse(&second).0];
    let policies =
        parts.iter().zip(&parsed).map(|(part, parsed)| SubjectPolicy { source: Source::Part(part), parsed }).collect();
    let row = compile(&Subject { identity: 256, policies }, &empty_index(), PolicyMode::Default);
    let named = |direction: &Option<tables::PolicyDirection>| -> Vec<String> {
        let classes = direction.as_ref().unwrap().classes.iter();
        let name = |class: &tables::CidrClass| {
            let verdict = class.if_world[0].verdicts[0];
            let rule = &row.rules[verdict.rule as usize - 1];
            assert_eq!(rule.policy, verdict.policy);
            let prefix = class.prefixes[0].parse().unwrap();
            format!("{}: {} {}", prefix.0, row.policies[rule.policy as usize], rule.field)
        };
        classes.map(name).collect()
    };
    assert_eq!(
        named(&row.ingress),
        [
            "10.0.0.0: networkpolicy:default/first spec.ingress[0]",
            "10.0.1.0: networkpolicy:default/second spec.ingress[0]",
            "10.0.2.0: networkpolicy:default/second spec.ingress[1]"
        ]
    );
    assert_eq!(
        named(&row.egress),
        [
            "10.0.1.0: networkpolicy:default/second spec.egress[0]",
            "10.0.2.0: networkpolicy:default/second spec.egress[1]"
        ]
    );
}

#[test]
fn modes_go_before_policies() {
    let (index, part) = (empty_index(), part("p"));
    let (parsed, _) = parse(&policy(vec![block("10.0.0.0/8", &[])], vec![]));
    let with = |policies: Vec<SubjectPolicy<'_>>, mode| {
        let row = compile(&Subject { identity: 256, policies }, &index, mode);
        let (ingress, egress) = (row.ingress.unwrap(), row.egress.unwrap());
        (ingress.enforced, ingress.isolated_by, ingress.classes.len(), egress.enforced, row.policies.len())
    };
    let one = || vec![SubjectPolicy { source: Source::Part(&part), parsed: &parsed }];
    assert_eq!(with(one(), PolicyMode::Default), (true, 1, 1, false, 1));
    assert_eq!(with(one(), PolicyMode::Always), (true, 1, 1, true, 1));
    assert_eq!(with(vec![], PolicyMode::Always), (true, 0, 0, true, 0));
    assert_eq!(with(one(), PolicyMode::Never), (false, 0, 0, false, 0));
}
