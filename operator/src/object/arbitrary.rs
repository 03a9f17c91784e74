//! Random objects for property tests: few names, labels and numbers, so that they meet each other often.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod cilium;

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Bandwidth, ClusterNetworkPolicy, ContainerPort, IpBlock, Labels, Name, Namespace, NetworkPolicy, Node, Operator,
    Peer, Pod, PolicyPort, PolicyRule, PolicyType, PoolChoice, PortRef, Protocol, Requirement, Selector, TieredPeer,
    TieredRule,
};

pub use cilium::{cidr_group, cilium_policy, service};

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
    let zone = of(select(vec!["a", "b"]).prop_map(|zone| ("zone", zone)));
    (1..250_u32, 0..2_u8, any::<bool>(), zone).prop_map(move |(max_pods, generation, has_cidr, zone)| {
        let number: u8 = name.bytes().last().map_or(0, |b| b - b'0');
        Node {
            name: name.into(),
            uid: format!("{name}-{generation}").into(),
            internal_ips: [IpAddr::from([172, 18, 0, number])].into(),
            external_ips: [].into(),
            labels: zone.into_iter().collect(),
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

/// Whether a policy only audits: few do.
fn audits() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.2)
}

pub fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = of(vec(select(vec![PolicyType::Ingress, PolicyType::Egress]), 0..3));
    let name = (select(NAMESPACES.to_vec()), 0..3_u8);
    (name, pod_selector(), vec(rule(), 0..3), vec(rule(), 0..3), types, audits()).prop_map(
        |((namespace, number), pod_selector, ingress, egress, types, audits)| NetworkPolicy {
            name: Name::new(namespace, format!("policy-{number}")),
            uid: format!("{namespace}-policy-{number}").into(),
            resource_version: "1".into(),
            audits,
            pod_selector,
            ingress: ingress.into(),
            egress: egress.into(),
            policy_types: types.map(Into::into),
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
    let head = (0..3_u8, select(vec!["Admin", "Admin", "Baseline"]), 0..3_i32, audits());
    let subject = (of(pod_selector()), namespace_selector());
    (head, subject, vec(tiered_rule(), 0..4), vec(tiered_rule(), 0..4)).prop_map(
        |((number, tier, priority, audits), (pod_selector, namespaces), ingress, egress)| ClusterNetworkPolicy {
            name: format!("tiered-{number}").into(),
            resource_version: "1".into(),
            audits,
            tier: tier.into(),
            priority,
            subject: Peer { pod_selector, namespace_selector: Some(namespaces), ip_block: None },
            ingress: ingress.into(),
            egress: egress.into(),
        },
    )
}
