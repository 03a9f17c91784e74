//! Random policies of Cilium.

use axoneme_crds::meta::{LabelRequirement, LabelSelector};
use axoneme_crds::v2::policy::peer::{LabelledServices, ServiceName};
use axoneme_crds::v2::policy::port::IcmpField;
use axoneme_crds::v2::policy::{
    CidrRule, DefaultDeny, DenyPortRule, EgressDenyRule, EgressRule, IcmpRule, IngressDenyRule, IngressRule,
    PortProtocol, PortRule, Rule, ServiceSelector,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{CIDRS, requirement};
use crate::object::{CidrGroup, CiliumPolicy, CiliumRule, Name, Requirement, Service, ServiceKind};

fn label_selector() -> impl Strategy<Value = LabelSelector> {
    let pods = requirement(&["app", "k8s:tier", "any:app"], &["a", "b", "x"]);
    let namespace = requirement(&["k8s:io.kubernetes.pod.namespace"], &["red", "green"]);
    let team = requirement(&["k8s:io.cilium.k8s.namespace.labels.team"], &["a", "b"]);
    let requirement = prop_oneof![4 => pods, 1 => namespace, 1 => team];
    vec(requirement, 0..3).prop_map(selector)
}

fn selector(requirements: Vec<Requirement>) -> LabelSelector {
    let expressions = requirements.into_iter().map(|requirement| LabelRequirement {
        key: requirement.key.into(),
        operator: format!("{:?}", requirement.operator),
        values: Some(requirement.values.iter().map(ToString::to_string).collect()),
    });
    LabelSelector { match_labels: None, match_expressions: Some(expressions.collect()) }
}

/// A selector of subjects: of no other namespace than the policy's.
fn subjects() -> impl Strategy<Value = LabelSelector> {
    let of_namespaces = |r: &LabelRequirement| r.key.contains("io.kubernetes.pod.namespace");
    label_selector().prop_filter("its own namespace", move |selector| {
        !selector.match_expressions.iter().flatten().any(of_namespaces)
    })
}

/// A selector of nodes.
fn nodes() -> impl Strategy<Value = LabelSelector> {
    vec(requirement(&["zone", "k8s:zone", "any:role"], &["a", "b"]), 0..3).prop_map(selector)
}

/// The peers of a rule: at most one of the lists.
fn peers() -> impl Strategy<Value = PeerLists> {
    let entities =
        ["all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node", "kube-apiserver", "none"];
    let entity = select(entities.to_vec());
    let cidrs =
        || select(CIDRS.iter().filter(|text| **text != "not a cidr").map(ToString::to_string).collect::<Vec<_>>());
    let set = (cidrs(), vec(cidrs(), 0..3)).prop_map(|(cidr, except)| {
        let cidr: ipnet::IpNet = cidr.parse().unwrap();
        let inside = |text: &String| cidr.contains(&text.parse::<ipnet::IpNet>().unwrap());
        let except = except.into_iter().filter(inside).collect();
        CidrRule { cidr: Some(cidr.to_string()), except: Some(except), ..CidrRule::default() }
    });
    let group = (select(GROUPS.to_vec()), any::<bool>(), vec(cidrs(), 0..2)).prop_map(|(name, by_name, except)| {
        let labels = [("kind".to_owned(), name.to_owned())].into();
        let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
        CidrRule {
            cidr: None,
            cidr_group_ref: by_name.then(|| name.to_owned()),
            cidr_group_selector: (!by_name).then_some(selector),
            except: Some(except),
        }
    });
    let set = prop_oneof![2 => set, 1 => group];
    prop_oneof![
        1 => Just(PeerLists::default()),
        4 => vec(label_selector(), 0..3).prop_map(|list| (Some(list), None, None, None)),
        3 => vec(entity.prop_map(str::to_owned), 0..3).prop_map(|list| (None, Some(list), None, None)),
        1 => vec(cidrs(), 0..3).prop_map(|list| (None, None, Some(list), None)),
        2 => vec(set, 0..3).prop_map(|list| (None, None, None, Some(list))),
    ]
}

/// Endpoints, entities, CIDRs and sets of CIDRs.
type PeerLists = (Option<Vec<LabelSelector>>, Option<Vec<String>>, Option<Vec<String>>, Option<Vec<CidrRule>>);

fn port_protocol() -> impl Strategy<Value = PortProtocol> {
    let port = select(vec![None, Some("0"), Some("53"), Some("80"), Some("8000"), Some("http"), Some("dns")]);
    let protocol = select(vec![None, Some("ANY"), Some("TCP"), Some("TCP"), Some("UDP"), Some("SCTP")]);
    let end = prop::option::weighted(0.3, select(vec![8080, 65_535]));
    let plain = (port, protocol, end).prop_map(|(port, protocol, end)| PortProtocol {
        port: port.map(str::to_owned),
        end_port: end,
        protocol: protocol.map(str::to_owned),
    });
    let bare = Just(PortProtocol { protocol: Some("VRRP".into()), ..PortProtocol::default() });
    prop_oneof![9 => plain, 1 => bare]
}

fn icmps() -> impl Strategy<Value = Option<Vec<IcmpRule>>> {
    let message = select(vec![("IPv4", "8"), ("IPv4", "EchoReply"), ("IPv6", "EchoRequest")])
        .prop_map(|(family, name)| IcmpField { family: Some(family.into()), type_: IntOrString::String(name.into()) });
    let rule = vec(message, 1..3).prop_map(|fields| vec![IcmpRule { fields: Some(fields) }]);
    prop::option::weighted(0.2, rule)
}

/// Ports of each of `toPorts`.
type PortLists = Option<Vec<Vec<PortProtocol>>>;

/// Peers, ports and ICMP messages of a rule: the last two exclude each other.
fn said() -> impl Strategy<Value = (PeerLists, PortLists, Option<Vec<IcmpRule>>)> {
    (peers(), of(vec(vec(port_protocol(), 0..3), 1..3)), icmps())
        .prop_map(|(peers, ports, icmps)| (peers, ports.filter(|_| icmps.is_none()), icmps))
}

fn allowed(ports: PortLists) -> Option<Vec<PortRule>> {
    ports.map(|all| all.into_iter().map(|ports| PortRule { ports: Some(ports), ..PortRule::default() }).collect())
}

fn denied(ports: PortLists) -> Option<Vec<DenyPortRule>> {
    ports.map(|all| all.into_iter().map(|ports| DenyPortRule { ports: Some(ports) }).collect())
}

/// A rule with these names for its lists of peers, and this for its ports.
macro_rules! rules {
    ($count:expr, $kind:ident, $endpoints:ident, $entities:ident, $cidr:ident, $set:ident, $ports:path) => {{
        let rule = |(peers, ports, icmps): (PeerLists, PortLists, Option<Vec<IcmpRule>>)| $kind {
            $endpoints: peers.0,
            $entities: peers.1,
            $cidr: peers.2,
            $set: peers.3,
            to_ports: $ports(ports),
            icmps,
            ..$kind::default()
        };
        vec(said().prop_map(rule), $count)
    }};
}

fn cilium_rule() -> impl Strategy<Value = Rule> {
    let ingress = rules!(0..3, IngressRule, from_endpoints, from_entities, from_cidr, from_cidr_set, allowed);
    let ingress_deny = rules!(0..2, IngressDenyRule, from_endpoints, from_entities, from_cidr, from_cidr_set, denied);
    let egress = rules!(0..3, EgressRule, to_endpoints, to_entities, to_cidr, to_cidr_set, allowed);
    let egress_deny = rules!(0..2, EgressDenyRule, to_endpoints, to_entities, to_cidr, to_cidr_set, denied);
    // Rules that name services instead of what they name.
    let egress = (egress, vec(services(), 3)).prop_map(|(mut rules, services)| {
        for (rule, services) in rules.iter_mut().zip(services).filter(|(_, services)| services.is_some()) {
            (rule.to_endpoints, rule.to_entities, rule.to_cidr, rule.to_cidr_set) = (None, None, None, None);
            rule.to_services = services;
        }
        rules
    });
    let egress_deny = (egress_deny, services()).prop_map(|(mut rules, services)| {
        for rule in rules.iter_mut().filter(|_| services.is_some()) {
            (rule.to_endpoints, rule.to_entities, rule.to_cidr, rule.to_cidr_set) = (None, None, None, None);
            rule.to_services.clone_from(&services);
        }
        rules
    });
    let wanted = prop::option::weighted(0.2, (of(any::<bool>()), of(any::<bool>())));
    (subjects(), of(ingress), of(ingress_deny), of(egress), of(egress_deny), wanted).prop_map(
        |(selector, ingress, ingress_deny, egress, egress_deny, wanted)| Rule {
            endpoint_selector: Some(selector),
            ingress,
            ingress_deny,
            egress,
            egress_deny,
            enable_default_deny: wanted.map(|(ingress, egress)| DefaultDeny { ingress, egress }),
            ..Rule::default()
        },
    )
}

/// Makes a rule one about nodes, which have no ports with names.
fn about_nodes(rule: &mut Rule, nodes: LabelSelector) {
    (rule.endpoint_selector, rule.node_selector) = (None, Some(nodes));
    let allowed = rule.ingress.iter_mut().flatten().flat_map(|rule| rule.to_ports.iter_mut().flatten());
    let denied = rule.ingress_deny.iter_mut().flatten().flat_map(|rule| rule.to_ports.iter_mut().flatten());
    for ports in allowed.map(|rule| &mut rule.ports).chain(denied.map(|rule| &mut rule.ports)).flatten() {
        ports.retain(|port| port.port.as_ref().is_none_or(|port| port.parse::<u16>().is_ok()));
    }
}

/// Now and then services, by name or by labels.
fn services() -> impl Strategy<Value = Option<Vec<ServiceSelector>>> {
    let namespace = || of(select(vec!["red", "green"]).prop_map(str::to_owned));
    let name = (select(vec!["service-0", "service-1", "service-2"]), namespace()).prop_map(|(name, namespace)| {
        let one = ServiceName { service_name: Some(name.to_owned()), namespace };
        ServiceSelector { k8s_service: Some(one), k8s_service_selector: None }
    });
    let labels = (of(select(vec!["a", "b"])), namespace()).prop_map(|(kind, namespace)| {
        let labels = kind.map(|kind| ("kind".to_owned(), kind.to_owned())).into_iter().collect();
        let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
        ServiceSelector { k8s_service: None, k8s_service_selector: Some(LabelledServices { selector, namespace }) }
    });
    prop::option::weighted(0.2, vec(prop_oneof![name, labels], 0..3))
}

/// A service of which policies know the pods behind it, by its selector, or nothing.
pub fn service() -> impl Strategy<Value = Service> {
    let name = (select(vec!["red", "green"]), 0..3_u8).prop_map(|(ns, n)| Name::new(ns, format!("service-{n}")));
    let labels = of(select(vec!["a", "b"]).prop_map(|kind| ("kind", kind)));
    let selector = vec(select(vec![("app", "a"), ("app", "b"), ("tier", "x")]), 0..3);
    (name, labels, selector).prop_map(|(name, labels, selector)| Service {
        name,
        uid: "u".into(),
        labels: labels.into_iter().collect(),
        kind: ServiceKind::ClusterIp,
        selector: selector.into_iter().collect(),
        cluster_ips: [].into(),
        headless: false,
        ports: [].into(),
        affinity_seconds: None,
        publish_not_ready: false,
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        external_local: false,
        internal_local: false,
        of_another_proxy: false,
    })
}

const GROUPS: [&str; 2] = ["lab", "office"];

/// A group whose label is another group's name.
pub fn cidr_group() -> impl Strategy<Value = CidrGroup> {
    let cidrs = select(vec!["10.0.0.0/8", "192.0.2.0/25", "8.8.8.8/32", "2001:db8::/48", "0.0.0.0/0"]);
    (select(GROUPS.to_vec()), select(GROUPS.to_vec()), vec(cidrs, 0..3)).prop_map(|(name, kind, cidrs)| CidrGroup {
        name: name.into(),
        labels: [("kind", kind)].into_iter().collect(),
        cidrs: cidrs.into_iter().map(|cidr| cidr.parse().unwrap()).collect(),
    })
}

/// A CiliumNetworkPolicy, or a clusterwide one, in which everything has a meaning.
pub fn cilium_policy() -> impl Strategy<Value = CiliumPolicy> {
    let name = (select(vec!["", "", "red", "green", "blue"]), 0..3_u8);
    let rules = vec((cilium_rule(), of(nodes())), 1..3);
    (name, rules, super::audits()).prop_map(|((namespace, number), rules, audits)| {
        let rule = |(mut rule, nodes): (Rule, Option<LabelSelector>)| {
            // Only clusterwide ones are about nodes.
            if let Some(nodes) = nodes.filter(|_| namespace.is_empty()) {
                about_nodes(&mut rule, nodes);
            }
            CiliumRule { field: "spec".into(), rule, unreadable: None }
        };
        CiliumPolicy {
            name: Name::new(namespace, format!("cilium-{number}")),
            resource_version: "1".into(),
            audits,
            rules: rules.into_iter().map(rule).collect(),
            valid: None,
        }
    })
}
