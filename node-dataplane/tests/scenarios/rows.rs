//! Rows in compact YAML.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::address::to_bytes;
use axoneme_proto::nodesync::{Row, RowKey};
use axoneme_proto::row::content_hash;
use axoneme_proto::tables::{self, peer_rules::Peer as AnyOrIdentity};
use axoneme_proto::{Scope, Table};
use ipnet::IpNet;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RowYaml {
    Settings(Settings),
    Node(Node),
    Peer(Peer),
    Endpoint(Endpoint),
    Pool(Pool),
    Policy(Policy),
    Service(Service),
    Backends(Backends),
    /// A row that this version cannot apply.
    Strange(Strange),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
pub struct Settings {
    native: bool,
    pod_cidrs: Vec<IpNet>,
    masquerade: bool,
    no_masquerade: Vec<IpNet>,
    direct: bool,
    skip_unreachable: bool,
    tunnel_over_ipv6: bool,
    mtu: u32,
    /// Of this node alone.
    node: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    name: String,
    addresses: Vec<IpAddr>,
    overlay: Vec<IpAddr>,
    cidrs: Vec<IpNet>,
    zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    uid: String,
    identity: u32,
    addresses: Vec<IpAddr>,
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    uid: String,
    identity: u32,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    features: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    reserve: (IpAddr, IpAddr),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    identity: u32,
    #[serde(default)]
    ingress: Option<Direction>,
    #[serde(default)]
    egress: Option<Direction>,
    #[serde(default)]
    features: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Direction {
    isolated_by: Option<String>,
    /// Peer ("200", "pod", "node", "world") to rules.
    #[serde(default)]
    peers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    classes: Vec<Class>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    prefixes: Vec<IpNet>,
    #[serde(default)]
    pod: Vec<String>,
    #[serde(default)]
    node: Vec<String>,
    #[serde(default)]
    world: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    name: String,
    ips: Vec<IpAddr>,
    ports: Vec<String>,
    #[serde(default)]
    external: Vec<IpAddr>,
    /// Cluster addresses lead to backends of the same node.
    #[serde(default)]
    local: bool,
    /// Clients outside get backends of the same node.
    #[serde(default)]
    outside_local: bool,
    /// Seconds.
    #[serde(default)]
    affinity: u32,
    #[serde(default)]
    features: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backends {
    slice: String,
    service: String,
    ports: Vec<String>,
    #[serde(default)]
    ready: Vec<String>,
    #[serde(default)]
    terminating: Vec<String>,
    #[serde(default)]
    not_ready: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strange {
    scope: String,
    table: i32,
    key: String,
    #[serde(default)]
    features: u64,
}

impl RowYaml {
    /// The row, for the node `own`.
    pub fn row(self, own: &str, revision: u64) -> Row {
        let own = || Scope::Node(own.to_owned());
        let mut row = match self {
            Self::Settings(s) => {
                let scope = s.node.clone().map_or(Scope::Cluster, Scope::Node);
                Row::new(&scope, Table::Settings, "", &s.message(), 0)
            }
            Self::Node(n) => {
                let message = tables::Node {
                    name: n.name.clone(),
                    addresses: bytes(&n.addresses),
                    overlay_addresses: bytes(&n.overlay),
                    pod_cidrs: prefixes(&n.cidrs),
                    zone: n.zone,
                    ..Default::default()
                };
                Row::new(&Scope::Cluster, Table::Node, n.name, &message, 0)
            }
            Self::Peer(p) => {
                let message = tables::Peer {
                    identity: p.identity,
                    addresses: bytes(&p.addresses),
                    node: p.node,
                    ..Default::default()
                };
                Row::new(&Scope::Peers(p.identity), Table::Peer, p.uid, &message, 0)
            }
            Self::Endpoint(e) => {
                let message = tables::Endpoint {
                    identity: e.identity,
                    addresses: bytes(&e.addresses),
                    pod_uid: e.uid.clone(),
                    ..Default::default()
                };
                Row::new(&own(), Table::Endpoint, e.uid, &message, e.features)
            }
            Self::Pool(p) => {
                let reserve = vec![tables::AddressRange::new(p.reserve.0, p.reserve.1)];
                let message = tables::Pool { name: "default".into(), reserve, ..Default::default() };
                Row::new(&own(), Table::Pool, "default", &message, 0)
            }
            Self::Policy(p) => {
                let features = p.features;
                let (identity, message) = (p.identity, p.message());
                let own = identity == axoneme_node::desired::HOST;
                let scope = if own { Scope::Node("n1".into()) } else { Scope::Policy(identity) };
                Row::new(&scope, Table::Policy, identity.to_string(), &message, features)
            }
            Self::Service(s) => {
                let (namespace, name) = s.name.split_once('/').unwrap();
                let port = |text: &String| {
                    let (text, node_port) = text.split_once(" at ").unwrap_or((text, "0"));
                    let (name, protocol, port) = port(text);
                    tables::ServicePort { name, protocol, port, node_port: node_port.parse().unwrap() }
                };
                let message = tables::Service {
                    namespace: namespace.into(),
                    name: name.into(),
                    cluster_ips: bytes(&s.ips),
                    ports: s.ports.iter().map(port).collect(),
                    external_ips: bytes(&s.external),
                    internal_local: s.local,
                    external_local: s.outside_local,
                    affinity_seconds: s.affinity,
                    ..Default::default()
                };
                Row::new(&Scope::Services, Table::Service, s.name, &message, s.features)
            }
            Self::Backends(b) => Row::new(&Scope::Services, Table::Backends, b.slice.clone(), &b.message(), 0),
            Self::Strange(s) => {
                let payload = vec![0xff, 0xff];
                let hash = content_hash(Table::Unspecified, &s.key, &payload, s.features);
                let key = Some(RowKey { scope: s.scope, table: s.table, key: s.key });
                Row { key, revision, hash, payload: payload.into(), features: s.features, ..Row::default() }
            }
        };
        row.revision = revision;
        row
    }
}

impl Settings {
    fn message(&self) -> tables::Settings {
        let mode = if self.native { tables::RoutingMode::Native } else { tables::RoutingMode::Vxlan };
        tables::Settings {
            routing_mode: mode.into(),
            tunnel_port: 8472,
            pod_cidrs: prefixes(&self.pod_cidrs),
            masquerade_ipv4: self.masquerade,
            no_masquerade: prefixes(&self.no_masquerade),
            auto_direct_node_routes: self.direct,
            direct_routes_skip_unreachable: self.skip_unreachable,
            tunnel_over_ipv6: self.tunnel_over_ipv6,
            ipv6: true,
            mtu: self.mtu,
            ..Default::default()
        }
    }
}

impl Policy {
    fn message(&self) -> tables::Policy {
        let mut names = Vec::new();
        let ingress = self.ingress.as_ref().map(|direction| direction.message(&mut names));
        let egress = self.egress.as_ref().map(|direction| direction.message(&mut names));
        tables::Policy { identity: self.identity, ingress, egress, policies: names, ..tables::Policy::default() }
    }
}

impl Direction {
    fn message(&self, names: &mut Vec<String>) -> tables::PolicyDirection {
        let isolated_by = self.isolated_by.as_ref().map_or(0, |name| index(names, name) + 1);
        let mut peers = Vec::new();
        for (peer, rules) in &self.peers {
            let peer = match peer.as_str() {
                "pod" => AnyOrIdentity::Any(tables::AnyPeer::Pod.into()),
                "node" => AnyOrIdentity::Any(tables::AnyPeer::Node.into()),
                "world" => AnyOrIdentity::Any(tables::AnyPeer::World.into()),
                identity => AnyOrIdentity::Identity(identity.parse().unwrap()),
            };
            peers.push(tables::PeerRules { peer: Some(peer), rules: rules_of(rules, names) });
        }
        let classes = self.classes.iter().map(|class| tables::CidrClass {
            prefixes: prefixes(&class.prefixes),
            if_pod: rules_of(&class.pod, names),
            if_node: rules_of(&class.node, names),
            if_world: rules_of(&class.world, names),
        });
        let classes = classes.collect();
        tables::PolicyDirection { enforced: self.isolated_by.is_some(), isolated_by, peers, classes }
    }
}

/// Rules like "tcp 80 allow ns/policy", "any deny ns/policy", "udp 53/12 allow ns/policy".
fn rules_of(rules: &[String], names: &mut Vec<String>) -> Vec<tables::PortRule> {
    let mut out = Vec::new();
    for rule in rules {
        let mut words: Vec<&str> = rule.split_whitespace().collect();
        let policy = index(names, words.pop().unwrap());
        let action = match words.pop().unwrap() {
            "allow" => tables::Action::Allow,
            "deny" => tables::Action::Deny,
            other => panic!("action {other:?}"),
        };
        let verdict =
            tables::TierVerdict { tier: tables::Tier::Normal.into(), action: action.into(), order: 0, policy, rule: 0 };
        let (protocol, port, port_bits) = match words[..] {
            ["any"] => (0, 0, 0),
            [protocol] => (number(protocol), 0, 0),
            [protocol, port] => match port.split_once('/') {
                Some((port, bits)) => (number(protocol), port.parse().unwrap(), bits.parse().unwrap()),
                None => (number(protocol), port.parse().unwrap(), 16),
            },
            _ => panic!("rule {rule:?}"),
        };
        out.push(tables::PortRule { protocol, port, port_bits, verdicts: vec![verdict] });
    }
    out
}

impl Backends {
    fn message(&self) -> tables::Backends {
        use tables::BackendState::{NotReady, Ready, Terminating};
        let (namespace, _) = self.slice.split_once('/').unwrap();
        let mut backends = Vec::new();
        for (addresses, state) in [(&self.ready, Ready), (&self.terminating, Terminating), (&self.not_ready, NotReady)]
        {
            backends.extend(addresses.iter().map(|text| backend(text, state)));
        }
        let ports = self.ports.iter().map(|text| port(text));
        tables::Backends {
            namespace: namespace.into(),
            service: self.service.clone(),
            ports: ports.map(|(name, protocol, port)| tables::BackendPort { name, protocol, port }).collect(),
            backends,
        }
    }
}

/// Backends like "10.1.0.1 on n1 for zone-a near n1": an address, its node, and the zone and the node whose clients it is meant for.
fn backend(text: &str, state: tables::BackendState) -> tables::Backend {
    let mut words = text.split_whitespace();
    let addresses = bytes(&[words.next().unwrap().parse().unwrap()]);
    let mut backend = tables::Backend { addresses, state: state.into(), ..Default::default() };
    while let (Some(what), Some(name)) = (words.next(), words.next()) {
        match what {
            "on" => backend.node = name.into(),
            "for" => backend.for_zones.push(name.into()),
            "near" => backend.for_nodes.push(name.into()),
            other => panic!("{other} of backend {text:?}"),
        }
    }
    backend
}

/// Ports like "http tcp 80".
fn port(text: &str) -> (String, u32, u32) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, protocol, port] = words[..] else { panic!("port {text:?}") };
    (name.into(), number(protocol), port.parse().unwrap())
}

fn number(protocol: &str) -> u32 {
    match protocol {
        "tcp" => 6,
        "udp" => 17,
        other => other.parse().unwrap(),
    }
}

fn index(names: &mut Vec<String>, name: &str) -> u32 {
    let found = names.iter().position(|known| known == name);
    let index = found.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    u32::try_from(index).unwrap()
}

fn bytes(addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    addresses.iter().copied().map(to_bytes).collect()
}

fn prefixes(nets: &[IpNet]) -> Vec<tables::Prefix> {
    nets.iter().map(|net| tables::Prefix::new(net.addr(), net.prefix_len())).collect()
}
