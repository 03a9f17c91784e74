//! Random objects for property tests: few names, labels and numbers, so that they meet each other often.

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_crds::meta::{LabelRequirement, LabelSelector};
use axoneme_crds::v2::policy::port::IcmpField;
use axoneme_crds::v2::policy::{
    CidrRule, DefaultDeny, DenyPortRule, EgressDenyRule, EgressRule, IcmpRule, IngressDenyRule, IngressRule,
    PortProtocol, PortRule, Rule,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Bandwidth, CidrGroup, CiliumPolicy, CiliumRule, ClusterNetworkPolicy, ContainerPort, IpBlock, Labels, Name,
    Namespace, NetworkPolicy, Node, Operator, Peer, Pod, PolicyPort, PolicyRule, PolicyType, PoolChoice, PortRef,
    Protocol, Requirement, Selector, TieredPeer, TieredRule,
};

pub const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
pub const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

pub fn namespace(name: &'static str) -> impl Strategy<Value = Namespace> {
    of(select(vec!["a", "b"])).prop_map(move |team| {
        let own = ("kubernetes.io/metadata.name", name);
        let labels = std::iter::once(own).chain(team.map(|team| ("team", team))).collect();
        Namespace { name: name.into(), labels, ..Namespace::default() }
    })
}

pub fn node(name: &'static str) -> impl Strategy<Value = Node> {
    (1..250_u32, 0..2_u8, any::<bool>()).prop_map(move |(max_pods, generation, has_cidr)| {
        let number: u8 = name.bytes().last().map_or(0, |b| b - b'0');
        Node {
            name: name.into(),
            uid: format!("{name}-{generation}").into(),
            internal_ips: [IpAddr::from([172, 18, 0, number])].into(),
            external_ips: [].into(),
            labels: Labels::default(),
            max_pods,
            pod_cidrs: has_cidr.then(|| format!("10.0.{number}.0/24").parse().unwrap()).into_iter().collect(),
            resource_version: "1".into(),
        }
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = || of(select(vec!["a", "b", "c"]));
    (value(), of(select(vec!["x", "y"])), value()).prop_map(|(app, tier, hash)| {
        let hash = hash.map(|value| ("pod-template-hash", value));
        app.map(|value| ("app", value)).into_iter().chain(tier.map(|value| ("tier", value))).chain(hash).collect()
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    // Mostly the one that policies mean when they say nothing.
    prop_oneof![3 => Just(Protocol::Tcp), 1 => select(Protocol::ALL.to_vec())]
}

/// Namespace, number and generation of a pod.
pub fn pod_uid() -> impl Strategy<Value = (&'static str, u8, u8)> {
    (select(NAMESPACES.to_vec()), 0..4_u8, prop_oneof![5 => Just(0_u8), 1 => Just(1_u8)])
}

/// Pod `number` of a namespace; its UID tells `generation`s apart.
pub fn pod() -> impl Strategy<Value = Pod> {
    let port = (select(vec!["http", "dns"]), protocol(), select(vec![53, 80, 81, 8080]));
    let ports = vec(port, 0..3).prop_map(|ports| {
        let mut ports: Vec<_> = ports
            .into_iter()
            .map(|(name, protocol, port)| ContainerPort { name: name.into(), protocol, port })
            .collect();
        ports.sort();
        ports.dedup_by(|a, b| (&a.name, a.protocol) == (&b.name, b.protocol));
        ports
    });
    let rarely = prop::bool::weighted(0.1);
    let flags = (rarely, prop::bool::weighted(0.2), rarely, of(2..4_u8), rarely);
    (pod_uid(), labels(), of(select(NODES.to_vec())), ports, flags).prop_map(|(name, labels, node, ports, flags)| {
        let (namespace, number, generation) = name;
        Pod {
            name: Name::new(namespace, format!("pod-{number}")),
            uid: format!("{namespace}-{number}-{generation}").into(),
            mirror: flags.2.then(|| "red-0-0".into()),
            labels,
            node: node.map(Arc::from),
            host_network: flags.0,
            service_account: "default".into(),
            ports: ports.into(),
            bandwidth: Bandwidth::default(),
            pools: PoolChoice { match_required: flags.4, ..PoolChoice::default() },
            ips: flags.3.map(|host| IpAddr::from([10, 0, 1, host])).into_iter().collect(),
            deleting: false,
            finished: flags.1,
            resource_version: "1".into(),
        }
    })
}

fn requirement(keys: &'static [&'static str], values: &'static [&'static str]) -> impl Strategy<Value = Requirement> {
    let operator = select(vec![Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]);
    (select(keys), operator, vec(select(values), 1..3)).prop_map(|(key, operator, values)| {
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        let values = values.into_iter().filter(|_| takes_values).map(Box::from).collect();
        Requirement { key: key.into(), operator, values }
    })
}

pub fn pod_selector() -> impl Strategy<Value = Selector> {
    vec(requirement(&["app", "tier"], &["a", "b", "x"]), 0..3)
        .prop_map(|requirements| Selector { requirements: requirements.into() })
}

fn namespace_selector() -> impl Strategy<Value = Selector> {
    vec(requirement(&["team", "kubernetes.io/metadata.name"], &["a", "b", "red", "green"]), 0..3)
        .prop_map(|requirements| Selector { requirements: requirements.into() })
}

/// Blocks around the addresses that pods, nodes and the world have in tests.
const CIDRS: [&str; 16] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.0/28",
    "10.0.1.2/31",
    "10.0.1.3/32",
    "10.0.1.7/24",
    "10.0.2.0/23",
    "172.16.0.0/12",
    "172.18.0.1/32",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/16",
    "2001:db8::/32",
    "not a cidr",
];

fn peer() -> impl Strategy<Value = Peer> {
    let block = (select(CIDRS.to_vec()), vec(select(CIDRS.to_vec()), 0..3))
        .prop_map(|(cidr, except)| IpBlock { cidr: cidr.into(), except: except.into_iter().map(Box::from).collect() });
    let selectors = (of(pod_selector()), of(namespace_selector()))
        .prop_map(|(pod_selector, namespace_selector)| Peer { pod_selector, namespace_selector, ip_block: None });
    prop_oneof![
        3 => selectors,
        2 => block.prop_map(|block| Peer { ip_block: Some(block), ..Peer::default() }),
    ]
}

fn policy_port() -> impl Strategy<Value = PolicyPort> {
    let number = || select(vec![0, 1, 53, 80, 81, 443, 8000, 8080, 65_535, 70_000]);
    let port = prop_oneof![
        3 => number().prop_map(PortRef::Number),
        3 => select(vec!["http", "dns"]).prop_map(|name| PortRef::Name(name.into())),
    ];
    let protocol = of(select(vec!["TCP", "TCP", "UDP", "SCTP", "ICMP"]));
    (protocol, of(port), prop::option::weighted(0.3, number())).prop_map(|(protocol, port, end_port)| PolicyPort {
        protocol: protocol.map(Box::from),
        port,
        end_port,
    })
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    (vec(peer(), 0..3), vec(policy_port(), 0..3))
        .prop_map(|(peers, ports)| PolicyRule { peers: peers.into(), ports: ports.into() })
}

pub fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = of(vec(select(vec![PolicyType::Ingress, PolicyType::Egress]), 0..3));
    let name = (select(NAMESPACES.to_vec()), 0..3_u8);
    (name, pod_selector(), vec(rule(), 0..3), vec(rule(), 0..3), types).prop_map(
        |((namespace, number), pod_selector, ingress, egress, types)| NetworkPolicy {
            name: Name::new(namespace, format!("policy-{number}")),
            uid: format!("{namespace}-policy-{number}").into(),
            resource_version: "1".into(),
            pod_selector,
            ingress: ingress.into(),
            egress: egress.into(),
            policy_types: types.map(Into::into),
        },
    )
}

fn label_selector() -> impl Strategy<Value = LabelSelector> {
    let pods = requirement(&["app", "k8s:tier", "any:app"], &["a", "b", "x"]);
    let namespace = requirement(&["k8s:io.kubernetes.pod.namespace"], &["red", "green"]);
    let team = requirement(&["k8s:io.cilium.k8s.namespace.labels.team"], &["a", "b"]);
    let requirement = prop_oneof![4 => pods, 1 => namespace, 1 => team];
    vec(requirement, 0..3).prop_map(|requirements| {
        let expressions = requirements.into_iter().map(|requirement| LabelRequirement {
            key: requirement.key.into(),
            operator: format!("{:?}", requirement.operator),
            values: Some(requirement.values.iter().map(ToString::to_string).collect()),
        });
        LabelSelector { match_labels: None, match_expressions: Some(expressions.collect()) }
    })
}

/// A selector of subjects: of no other namespace than the policy's.
fn subjects() -> impl Strategy<Value = LabelSelector> {
    let of_namespaces = |r: &LabelRequirement| r.key.contains("io.kubernetes.pod.namespace");
    label_selector().prop_filter("its own namespace", move |selector| {
        !selector.match_expressions.iter().flatten().any(of_namespaces)
    })
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

fn cilium_rule() -> impl Strategy<Value = Rule> {
    let ingress = vec(said(), 0..3).prop_map(|all| {
        let rule = |((from_endpoints, from_entities, from_cidr, from_cidr_set), ports, icmps)| IngressRule {
            from_endpoints,
            from_entities,
            from_cidr,
            from_cidr_set,
            to_ports: allowed(ports),
            icmps,
            ..IngressRule::default()
        };
        all.into_iter().map(rule).collect()
    });
    let ingress_deny = vec(said(), 0..2).prop_map(|all| {
        let rule = |((from_endpoints, from_entities, from_cidr, from_cidr_set), ports, icmps)| IngressDenyRule {
            from_endpoints,
            from_entities,
            from_cidr,
            from_cidr_set,
            to_ports: denied(ports),
            icmps,
            ..IngressDenyRule::default()
        };
        all.into_iter().map(rule).collect()
    });
    let egress = vec(said(), 0..3).prop_map(|all| {
        let rule = |((to_endpoints, to_entities, to_cidr, to_cidr_set), ports, icmps)| EgressRule {
            to_endpoints,
            to_entities,
            to_cidr,
            to_cidr_set,
            to_ports: allowed(ports),
            icmps,
            ..EgressRule::default()
        };
        all.into_iter().map(rule).collect()
    });
    let egress_deny = vec(said(), 0..2).prop_map(|all| {
        let rule = |((to_endpoints, to_entities, to_cidr, to_cidr_set), ports, icmps)| EgressDenyRule {
            to_endpoints,
            to_entities,
            to_cidr,
            to_cidr_set,
            to_ports: denied(ports),
            icmps,
            ..EgressDenyRule::default()
        };
        all.into_iter().map(rule).collect()
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

fn tiered_rule() -> impl Strategy<Value = TieredRule> {
    let block = select(CIDRS.iter().filter(|text| **text != "not a cidr").copied().collect::<Vec<_>>())
        .prop_map(|cidr| Peer { ip_block: Some(IpBlock { cidr: cidr.into(), except: [].into() }), ..Peer::default() });
    let pods = (of(pod_selector()), namespace_selector()).prop_map(|(pod_selector, namespaces)| Peer {
        pod_selector,
        namespace_selector: Some(namespaces),
        ip_block: None,
    });
    let nodes = select(vec!["a", "b"]).prop_map(|zone| TieredPeer::Nodes(Selector::new([("zone", zone)], [])));
    let peer = prop_oneof![
        4 => pods.prop_map(TieredPeer::Peer),
        4 => block.prop_map(TieredPeer::Peer),
        2 => nodes,
        1 => Just(TieredPeer::DomainNames),
        1 => Just(TieredPeer::Unknown),
    ];
    let number = select(vec![(Some(53), None), (Some(80), None), (Some(80), Some(8080)), (None, None)]);
    let number = number.prop_map(|(first, last)| (first.map(PortRef::Number), last));
    let port = prop_oneof![
        4 => number,
        1 => select(vec!["http", "dns"]).prop_map(|name| (Some(PortRef::Name(name.into())), None)),
    ];
    let port = (protocol(), port).prop_map(|(protocol, (port, end_port))| PolicyPort {
        protocol: Some(protocol.to_string().into()),
        port,
        end_port,
    });
    let action = select(vec!["Accept", "Deny", "Pass"]);
    (action, vec(peer, 1..3), vec(port, 0..3)).prop_map(|(action, peers, ports)| TieredRule {
        action: action.into(),
        peers: peers.into(),
        ports: ports.into(),
    })
}

pub fn cluster_network_policy() -> impl Strategy<Value = ClusterNetworkPolicy> {
    let head = (0..3_u8, select(vec!["Admin", "Admin", "Baseline"]), 0..3_i32);
    let subject = (of(pod_selector()), namespace_selector());
    (head, subject, vec(tiered_rule(), 0..4), vec(tiered_rule(), 0..4)).prop_map(
        |((number, tier, priority), (pod_selector, namespaces), ingress, egress)| ClusterNetworkPolicy {
            name: format!("tiered-{number}").into(),
            resource_version: "1".into(),
            tier: tier.into(),
            priority,
            subject: Peer { pod_selector, namespace_selector: Some(namespaces), ip_block: None },
            ingress: ingress.into(),
            egress: egress.into(),
        },
    )
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
    let name = (select(vec!["", "red", "green", "blue"]), 0..3_u8);
    (name, vec(cilium_rule(), 1..3)).prop_map(|((namespace, number), rules)| CiliumPolicy {
        name: Name::new(namespace, format!("cilium-{number}")),
        resource_version: "1".into(),
        rules: rules.into_iter().map(|rule| CiliumRule { field: "spec".into(), rule, unreadable: None }).collect(),
        valid: None,
    })
}
