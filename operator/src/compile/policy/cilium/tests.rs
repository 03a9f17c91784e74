//! What single fields mean.

use serde_json::{Value, json};

use super::*;
use crate::compile::policy::parsed::{HOST, Owners, ParsedPeer};
use crate::compile::policy::ports::{PortKey, PortSet};
use crate::object::{CiliumRule, Name, Protocol};
use axoneme_proto::tables::AnyPeer;

fn parsed(namespace: &str, rule: Value) -> (Vec<ParsedPolicy>, Vec<Diagnostic>) {
    parsed_with(true, namespace, rule)
}

fn parsed_with(host_firewall: bool, namespace: &str, rule: Value) -> (Vec<ParsedPolicy>, Vec<Diagnostic>) {
    let rule = CiliumRule { field: "spec".into(), rule: serde_json::from_value(rule).unwrap(), unreadable: None };
    let (name, resource_version) = (Name::new(namespace, "p"), "1".into());
    let parsed = parse(
        &CiliumPolicy { name, resource_version, rules: [rule].into(), audits: false, valid: None },
        Options { cidrs_of: Owners::World, host_firewall },
    );
    (parsed.parts, parsed.diagnostics)
}

/// What a rule of ingress says in a policy of a namespace, and the fields that are told.
fn ingress(list: &str, clause: Value) -> (Vec<ParsedPeer>, PortSet, Vec<String>) {
    let (mut parts, diagnostics) = parsed("default", json!({"endpointSelector": {}, list: [clause]}));
    let rule = parts.remove(0).ingress.rules.remove(0);
    (rule.peers, rule.ports, diagnostics.iter().map(|d| d.field.to_string()).collect())
}

fn selector(text: &[(&str, &str)]) -> Vec<String> {
    text.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn pods(parsed: &ParsedPolicy) -> &Selector {
    match &parsed.subjects {
        Subjects::Pods(selector) => selector,
        Subjects::Nodes(_) => panic!("{parsed:?}"),
    }
}

/// Requirements of one value.
fn values(selector: &Selector) -> Vec<String> {
    selector.requirements.iter().map(|r| format!("{}={}", r.key, r.values.join(","))).collect()
}

#[test]
fn directions_are_isolated_by_their_rules_unless_the_policy_says_otherwise() {
    let isolates = |rule: Value| {
        let (parts, _) = parsed("default", rule);
        (parts[0].ingress.isolates, parts[0].egress.isolates)
    };
    let with = |more: Value| {
        let mut rule = json!({"endpointSelector": {}});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        isolates(rule)
    };
    assert_eq!(with(json!({"ingress": []})), (false, false));
    assert_eq!(with(json!({"ingress": [{}]})), (true, false));
    assert_eq!(with(json!({"ingressDeny": [{}], "egress": [{}]})), (true, true));
    assert_eq!(with(json!({"ingress": [{}], "enableDefaultDeny": {"ingress": false, "egress": true}})), (false, true));
}

#[test]
fn a_rule_without_peers_is_about_all_if_it_names_ports_else_about_nobody() {
    let port = json!([{"ports": [{"port": "80", "protocol": "TCP"}]}]);
    assert_eq!(ingress("ingress", json!({})).0, []);
    assert_eq!(ingress("ingress", json!({"toPorts": port})).0, [ParsedPeer::Everything]);
    assert_eq!(ingress("ingress", json!({"fromEndpoints": [], "toPorts": port})).0, []);
}

#[test]
fn selectors_are_confined_to_the_policys_namespace_unless_they_name_one() {
    let peers = |namespace: &str, selector: Value| {
        let rule = json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": selector}]}]});
        match parsed(namespace, rule).0.remove(0).ingress.rules.remove(0).peers.as_slice() {
            [ParsedPeer::Selected(selector)] => values(selector),
            [ParsedPeer::Scope(AnyPeer::Pod)] => vec!["any pod".to_owned()],
            other => panic!("{other:?}"),
        }
    };
    let own = ("k8s:io.kubernetes.pod.namespace", "default");
    assert_eq!(peers("default", json!({"app": "a"})), selector(&[("k8s:app", "a"), own]));
    assert_eq!(peers("default", json!({"any:app": "a"})), selector(&[("k8s:app", "a"), own]));
    let elsewhere = json!({"k8s:app": "a", "k8s:io.kubernetes.pod.namespace": "other"});
    let other = ("k8s:io.kubernetes.pod.namespace", "other");
    assert_eq!(peers("default", elsewhere), selector(&[("k8s:app", "a"), other]));
    let team = "k8s:io.cilium.k8s.namespace.labels.team";
    assert_eq!(peers("default", json!({team: "b"})), selector(&[(team, "b")]));
    assert_eq!(peers("", json!({"app": "a"})), selector(&[("k8s:app", "a")]));
    assert_eq!(peers("", json!({})), ["any pod"]);
}

#[test]
fn the_subject_is_always_of_the_policys_namespace() {
    let labels = json!({"app": "a", "io.kubernetes.pod.namespace": "other"});
    let (parts, diagnostics) = parsed("default", json!({"endpointSelector": {"matchLabels": labels}, "ingress": [{}]}));
    let own = ("k8s:io.kubernetes.pod.namespace", "default");
    assert_eq!(values(pods(&parts[0])), selector(&[("k8s:app", "a"), own]));
    assert_eq!(diagnostics.len(), 1);
    let (parts, diagnostics) = parsed("", json!({"endpointSelector": {"matchLabels": labels}, "ingress": [{}]}));
    let other = ("k8s:io.kubernetes.pod.namespace", "other");
    assert_eq!(values(pods(&parts[0])), selector(&[("k8s:app", "a"), other]));
    assert_eq!(diagnostics, []);
}

#[test]
fn entities() {
    let peers = |entity: &str| ingress("ingress", json!({"fromEntities": [entity]})).0;
    assert_eq!(peers("all"), [ParsedPeer::Everything]);
    assert_eq!(peers("cluster"), [ParsedPeer::Scope(AnyPeer::Pod), ParsedPeer::Scope(AnyPeer::Node)]);
    assert_eq!(peers("kube-apiserver"), [ParsedPeer::ApiServer]);
    assert_eq!(peers("none"), []);
    let cidr = "::/0".parse().unwrap();
    assert_eq!(peers("world-ipv6"), [ParsedPeer::Block { cidr, except: vec![], of: Owners::World }]);
    let zone = json!({"fromNodes": [{"matchLabels": {"k8s:zone": "a"}}]});
    let selector = crate::object::Selector::new([("zone", "a")], []);
    assert_eq!(ingress("ingress", zone).0, [ParsedPeer::Nodes(selector)]);
    let by_label = json!({"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]});
    assert_eq!(ingress("ingress", by_label).0, [ParsedPeer::Node(HOST)]);
}

#[test]
fn ports() {
    let keys = |port: Value| {
        let (_, set, told) = ingress("ingress", json!({"toPorts": [{"ports": [port]}]}));
        (set.keys, set.named.len(), told.len())
    };
    let one = |protocol| PortKey::one(protocol, 80);
    assert_eq!(keys(json!({"port": "80", "protocol": "TCP"})), (vec![one(Protocol::Tcp)], 0, 0));
    assert_eq!(keys(json!({"port": "80"})).0, Protocol::ALL.map(one));
    assert_eq!(keys(json!({"port": "80", "protocol": "ANY"})).0, Protocol::ALL.map(one));
    assert_eq!(keys(json!({"port": "0"})).0, [PortKey::ANY]);
    assert_eq!(keys(json!({"protocol": "UDP"})).0, [PortKey::all(Protocol::Udp)]);
    assert_eq!(keys(json!({"protocol": "VRRP"})).0, [PortKey { protocol: 112, port: 0, bits: 0 }]);
    assert_eq!(keys(json!({"port": "80", "protocol": "GRE"})), (vec![], 0, 1));
    assert_eq!(keys(json!({"port": "80", "endPort": 83, "protocol": "TCP"})).0.len(), 1);
    assert_eq!(keys(json!({"port": "80", "endPort": 79, "protocol": "TCP"})), (vec![], 0, 1));
    assert_eq!(keys(json!({"port": "http", "protocol": "TCP"})), (vec![], 1, 0));
    assert_eq!(ingress("ingress", json!({"toPorts": [{}], "fromEntities": ["all"]})).1.keys, [PortKey::ANY]);
}

#[test]
fn icmp_types_by_number_and_by_name() {
    let keys = |field: Value| {
        let (_, set, told) = ingress("ingress", json!({"icmps": [{"fields": [field]}]}));
        (set.keys, told)
    };
    assert_eq!(keys(json!({"type": 8})).0, [PortKey::icmp(8, false)]);
    assert_eq!(keys(json!({"type": "8"})).0, [PortKey::icmp(8, false)]);
    assert_eq!(keys(json!({"type": "EchoRequest"})).0, [PortKey::icmp(8, false)]);
    assert_eq!(keys(json!({"type": "EchoRequest", "family": "IPv6"})).0, [PortKey::icmp(128, true)]);
    assert_eq!(keys(json!({"type": "PacketTooBig"})), (vec![], vec!["spec.ingress[0].icmps[0].fields[0].type".into()]));
}

/// A deny that cannot be understood denies at least what it means.
#[test]
fn what_a_deny_may_mean_is_denied() {
    let deny = |clause: Value| ingress("ingressDeny", clause);
    let world = [ParsedPeer::Scope(AnyPeer::World)];
    assert_eq!(deny(json!({"fromCIDR": ["nonsense"]})).0, world);
    assert_eq!(deny(json!({"fromGroups": [{}]})).0, world);
    assert_eq!(deny(json!({"fromEntities": ["nobody"]})).0, [ParsedPeer::Everything]);
    let both = json!({"fromEntities": ["host"], "fromEndpoints": [{}]});
    assert_eq!(deny(both.clone()).0.len(), 2);
    assert_eq!(ingress("ingress", both).0, []);
    let (_, ports, told) = deny(json!({"toPorts": [{"ports": [{"port": "70000"}]}]}));
    assert_eq!((ports.keys, told.len()), (vec![PortKey::ANY], 1));
    let block = deny(json!({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["nonsense"]}]})).0;
    let cidr = "10.0.0.0/8".parse().unwrap();
    assert_eq!(block, [ParsedPeer::Block { cidr, except: vec![], of: Owners::World }]);
    assert_eq!(ingress("ingress", json!({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["nonsense"]}]})).0, []);
}

#[test]
fn a_rule_is_about_nodes_by_their_labels() {
    let rule =
        json!({"nodeSelector": {"matchLabels": {"zone": "a", "k8s:role": "db"}}, "ingress": [{}], "egressDeny": [{}]});
    let (mut parts, diagnostics) = parsed("", rule);
    let part = parts.remove(0);
    let Subjects::Nodes(selector) = &part.subjects else { panic!("{part:?}") };
    assert_eq!(values(selector), ["role=db", "zone=a"]);
    assert_eq!((&*part.field, part.ingress.isolates, part.egress.isolates), ("spec.nodeSelector", true, true));
    assert_eq!((parts.len(), diagnostics), (0, vec![]));
}

#[test]
fn a_rule_about_nodes_that_is_not_enforced_says_why() {
    let told = |host_firewall, namespace, rule| {
        let (parts, diagnostics) = parsed_with(host_firewall, namespace, rule);
        let told: Vec<_> = diagnostics.into_iter().map(|d| (d.reason, d.field.to_string(), d.message)).collect();
        (parts.len(), told)
    };
    let rule = json!({"nodeSelector": {}, "ingress": [{}]});
    let one = |reason, message: &str| vec![(reason, "spec.nodeSelector".to_owned(), message.into())];
    let off = "hostFirewall.enabled is false: this one has no effect";
    assert_eq!(told(false, "", rule.clone()), (0, one(Reason::NotEnabled, off)));
    let namespaced = "only a CiliumClusterwideNetworkPolicy is about nodes: this one has no effect";
    for host_firewall in [false, true] {
        assert_eq!(told(host_firewall, "default", rule.clone()), (0, one(Reason::InvalidField, namespaced)));
    }
    let nobody = "is absent, and endpointSelector too: the rule is about nobody";
    assert_eq!(told(true, "", json!({"ingress": [{}]})), (0, one(Reason::InvalidField, nobody)));
    let both = "cannot stand beside endpointSelector: the rule is about pods only";
    let rule = json!({"nodeSelector": {}, "endpointSelector": {}, "ingress": [{}]});
    assert_eq!(told(true, "", rule), (1, one(Reason::InvalidField, both)));
}

#[test]
fn nodes_that_are_unclear_are_isolated() {
    let unknown = json!({"matchExpressions": [{"key": "zone", "operator": "Like"}]});
    let rule = json!({"nodeSelector": unknown, "ingress": [{}], "ingressDeny": [{"toPorts": [{}]}]});
    let (parts, diagnostics) = parsed("", rule);
    assert_eq!(parts[0].subjects, Subjects::Nodes(Selector::default()));
    assert!(parts[0].ingress.isolates);
    assert_eq!(parts[0].ingress.rules.iter().map(|r| &*r.field).collect::<Vec<_>>(), ["spec.ingressDeny[0]"]);
    assert_eq!(diagnostics.iter().map(|d| &*d.field).collect::<Vec<_>>(), ["spec.nodeSelector"]);
}

#[test]
fn nodes_have_no_ports_with_names() {
    let named =
        || json!([{"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}, {"port": "80", "protocol": "TCP"}]}]}]);
    let rule = json!({"nodeSelector": {}, "ingress": named(), "ingressDeny": named(), "egress": named()});
    let (parts, diagnostics) = parsed("", rule);
    let http = PortKey::one(Protocol::Tcp, 80);
    let ports = |rule: &ParsedRule| (rule.ports.keys.clone(), rule.ports.named.len());
    assert_eq!(
        parts[0].ingress.rules.iter().map(ports).collect::<Vec<_>>(),
        [(vec![http], 0), (vec![PortKey::ANY, http], 0)]
    );
    assert_eq!(parts[0].egress.rules.iter().map(ports).collect::<Vec<_>>(), [(vec![http], 1)]);
    let told: Vec<_> = diagnostics.iter().map(|d| &*d.field).collect();
    assert_eq!(told, ["spec.ingressDeny[0].toPorts[0].ports[0].port", "spec.ingress[0].toPorts[0].ports[0].port"]);
}
