//! The reference evaluator: policies as their APIs describe them, on whole objects, one packet at a time. This is NetworkPolicy, and
//! what stays open to nodes.
//!
//! It knows no identities, rows or classes. In two points the API leaves room, and this is what the project does:
//! a port by name means every number that it has in pods with the same namespace, service account and labels (pods of one
//! identity are judged alike), and towards an ipBlock it means nothing.
#![allow(clippy::unwrap_used, reason = "for tests")]

mod cilium;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::object::{
    self, CidrGroup, CiliumPolicy, ClusterNetworkPolicy, Direction, IpBlock, Namespace, NetworkPolicy, Node, Pod,
    PolicyPort, PolicyRule, PolicyType, PortRef, Protocol, Service, TieredPeer, TieredRule,
};

use super::Emergency;

/// All objects that matter.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
    pub cilium: Vec<CiliumPolicy>,
    pub tiered: Vec<ClusterNetworkPolicy>,
    pub nodes: Vec<Node>,
    pub groups: Vec<CidrGroup>,
    /// With the addresses of their endpoints.
    pub services: Vec<(Service, Vec<IpAddr>)>,
    /// Addresses of the API server.
    pub api_server: Vec<IpAddr>,
    /// CIDRs in Cilium's policies mean nodes, too.
    pub cidrs_mean_nodes: bool,
    /// What stays open where policies of nodes hold; none: they do not.
    pub host_firewall: Option<Emergency>,
}

/// Whose policies are asked.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Pod(&'a Pod),
    Node(&'a Node),
}

impl<'a> Subject<'a> {
    /// It, if it is a pod.
    pub const fn pod(self) -> Option<&'a Pod> {
        match self {
            Self::Pod(pod) => Some(pod),
            Self::Node(_) => None,
        }
    }

    pub fn addresses(self) -> &'a [IpAddr] {
        match self {
            Self::Pod(pod) => &pod.ips,
            Self::Node(node) => &node.internal_ips,
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Pod(pod) => pod.name.to_string(),
            Self::Node(node) => node.name.to_string(),
        }
    }
}

/// Whose address the other end has.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    Pod(&'a Pod),
    Host,
    RemoteNode,
    World,
}

/// A packet of a new connection from or to a subject.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub direction: Direction,
    pub peer: Peer<'a>,
    pub address: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// Of ICMP its type.
    pub port: u16,
}

impl World {
    /// The same with policies that only audit enforced as others.
    pub fn enforcing_all(&self) -> Self {
        let mut all = self.clone();
        all.policies.iter_mut().for_each(|policy| policy.audits = false);
        all.cilium.iter_mut().for_each(|policy| policy.audits = false);
        all.tiered.iter_mut().for_each(|policy| policy.audits = false);
        all
    }

    /// Whether the policies that select `subject` let the packet pass.
    pub fn allows(&self, subject: Subject<'_>, packet: &Packet<'_>) -> bool {
        let tier = |tier| subject.pod().and_then(|pod| self.tier(tier, pod, packet));
        let open = subject.pod().is_none() && self.stays_open(packet);
        open || tier("Admin").or_else(|| self.normal(subject, packet)).or_else(|| tier("Baseline")).unwrap_or(true)
    }

    /// Whether no policy of nodes closes the way of a packet to or from one.
    fn stays_open(&self, packet: &Packet<'_>) -> bool {
        let Some(open) = &self.host_firewall else { return true };
        let nodesync = packet.port == open.nodesync;
        match (packet.direction, packet.protocol) {
            (Direction::Ingress, 6) => nodesync || open.ports.contains(&packet.port),
            (Direction::Egress, 6) => nodesync || self.api_server.contains(&packet.address),
            (Direction::Ingress, 17) => matches!(packet.port, 68 | 546),
            (Direction::Egress, 17) => matches!(packet.port, 67 | 547),
            _ => false,
        }
    }

    /// What the policies of namespaces and Cilium's decide, if they do.
    fn normal(&self, subject: Subject<'_>, packet: &Packet<'_>) -> Option<bool> {
        let saying: Vec<_> = match subject {
            Subject::Pod(pod) => self.policies.iter().filter(|policy| selects(policy, pod, packet.direction)).collect(),
            Subject::Node(_) => Vec::new(),
        };
        let allows = |policy: &&NetworkPolicy| {
            let rules = match packet.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            rules.iter().any(|rule| subject.pod().is_some_and(|pod| self.rule_allows(policy, pod, rule, packet)))
        };
        let cilium: Vec<_> = self.cilium.iter().map(|policy| self.cilium(policy, subject, packet)).collect();
        if cilium.iter().any(|said| said.denies) {
            return Some(false);
        }
        let allowed = saying.iter().any(allows) || cilium.iter().any(|said| said.allows);
        let isolated = saying.iter().any(|policy| !policy.audits) || cilium.iter().any(|said| said.isolates);
        (allowed || isolated).then_some(allowed)
    }

    /// What the ClusterNetworkPolicies of a tier decide, if they do.
    fn tier(&self, tier: &str, subject: &Pod, packet: &Packet<'_>) -> Option<bool> {
        let about =
            |policy: &&ClusterNetworkPolicy| *policy.tier == *tier && self.selects("", &policy.subject, subject);
        let matching = self.tiered.iter().filter(about).flat_map(|policy| {
            let rules = match packet.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            rules.iter().enumerate().filter_map(move |(i, rule)| {
                let action = self.tiered(subject, rule, packet)?;
                if policy.audits && action == "Deny" {
                    return None;
                }
                let rank = ["Deny", "Accept", "Pass"].iter().position(|known| *known == action);
                Some(((policy.priority, i, rank), action))
            })
        });
        match matching.min()?.1 {
            "Deny" => Some(false),
            "Accept" => Some(true),
            _ => None,
        }
    }

    /// What a rule does with the packet.
    fn tiered<'a>(&self, subject: &Pod, rule: &'a TieredRule, packet: &Packet<'_>) -> Option<&'a str> {
        let unclear = |peer: &TieredPeer| matches!(peer, TieredPeer::Unknown | TieredPeer::DomainNames);
        if rule.peers.iter().any(unclear) && *rule.action != *"Accept" {
            return Some("Deny");
        }
        let peer = |peer: &TieredPeer| match (peer, packet.peer) {
            (TieredPeer::Peer(object::Peer { ip_block: Some(block), .. }), _) => {
                block_contains(block, packet.address).then_some(true)
            }
            (TieredPeer::Peer(peer), Peer::Pod(pod)) => self.selects("", peer, pod).then_some(false),
            (TieredPeer::Nodes(selector), Peer::Host | Peer::RemoteNode) => {
                let has = |node: &&Node| node.internal_ips.contains(&packet.address);
                self.nodes.iter().find(has).filter(|node| selector.matches(&node.labels)).map(|_| true)
            }
            _ => None,
        };
        let port = |addresses: bool| {
            rule.ports.is_empty() || rule.ports.iter().any(|port| self.port_matches(subject, port, packet, addresses))
        };
        rule.peers.iter().filter_map(peer).any(port).then_some(&*rule.action)
    }

    fn rule_allows(&self, policy: &NetworkPolicy, subject: &Pod, rule: &PolicyRule, packet: &Packet<'_>) -> bool {
        let port_allows = |block: bool| {
            rule.ports.is_empty() || rule.ports.iter().any(|port| self.port_matches(subject, port, packet, block))
        };
        if rule.peers.is_empty() {
            return port_allows(false);
        }
        let mut peers = rule.peers.iter().filter(|peer| self.peer_matches(policy, peer, packet));
        peers.any(|peer| port_allows(peer.ip_block.is_some()))
    }

    fn peer_matches(&self, policy: &NetworkPolicy, peer: &object::Peer, packet: &Packet<'_>) -> bool {
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (&peer.ip_block, packet.peer) {
            (Some(block), _) => !selects && block_contains(block, packet.address),
            (None, Peer::Pod(pod)) => selects && self.selects(&policy.name.namespace, peer, pod),
            (None, _) => false,
        }
    }

    /// Whether a peer's selectors mean a pod; without one for namespaces, pods of `namespace`.
    fn selects(&self, namespace: &str, peer: &object::Peer, pod: &Pod) -> bool {
        let namespace_matches = match &peer.namespace_selector {
            None => *pod.name.namespace == *namespace,
            Some(selector) => self.namespace(pod).is_some_and(|namespace| selector.matches(&namespace.labels)),
        };
        namespace_matches && peer.pod_selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
    }

    fn port_matches(&self, subject: &Pod, port: &PolicyPort, packet: &Packet<'_>, block: bool) -> bool {
        let protocol = Protocol::from_kubernetes(port.protocol.as_deref().unwrap_or("TCP"));
        let Some(protocol) = protocol.filter(|protocol| protocol.number() == packet.protocol) else { return false };
        match (&port.port, port.end_port) {
            (None, None) => true,
            (None, Some(_)) | (Some(PortRef::Name(_)), Some(_)) => false,
            (Some(PortRef::Number(first)), end) => {
                let last = end.unwrap_or(*first);
                let valid = 1..=65_535;
                valid.contains(first) && valid.contains(&last) && (*first..=last).contains(&packet.port.into())
            }
            (Some(PortRef::Name(name)), None) => {
                let named = match (packet.direction, packet.peer) {
                    (Direction::Ingress, _) => Some(subject),
                    (Direction::Egress, Peer::Pod(pod)) if !block => Some(pod),
                    (Direction::Egress, _) => None,
                };
                named.is_some_and(|pod| self.has_port(pod, name, protocol, packet.port))
            }
        }
    }

    fn has_port(&self, pod: &Pod, name: &str, protocol: Protocol, number: u16) -> bool {
        let labels = |pod: &Pod| -> Vec<(String, String)> {
            let all = pod.labels.iter().filter(|(key, _)| *key != "pod-template-hash");
            all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let alike = |other: &&Pod| {
            other.name.namespace == pod.name.namespace
                && other.service_account == pod.service_account
                && labels(other) == labels(pod)
        };
        self.pods
            .iter()
            .filter(alike)
            .flat_map(|pod| &pod.ports)
            .any(|port| *port.name == *name && port.protocol == protocol && port.port == number)
    }

    fn namespace(&self, pod: &Pod) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.name == pod.name.namespace)
    }
}

fn selects(policy: &NetworkPolicy, pod: &Pod, direction: Direction) -> bool {
    policy.name.namespace == pod.name.namespace
        && policy.pod_selector.matches(&pod.labels)
        && isolates(policy, direction)
}

fn isolates(policy: &NetworkPolicy, direction: Direction) -> bool {
    match policy.policy_types.as_deref() {
        None | Some([]) => direction == Direction::Ingress || !policy.egress.is_empty(),
        Some(types) => types.contains(&match direction {
            Direction::Ingress => PolicyType::Ingress,
            Direction::Egress => PolicyType::Egress,
        }),
    }
}

/// A block with a part that cannot be read contains nothing.
fn block_contains(block: &IpBlock, address: IpAddr) -> bool {
    let parse = |text: &str| text.parse::<IpNet>().ok();
    let Some(cidr) = parse(&block.cidr) else { return false };
    let except: Option<Vec<IpNet>> = block.except.iter().map(|text| parse(text)).collect();
    except.is_some_and(|except| cidr.contains(&address) && !except.iter().any(|net| net.contains(&address)))
}
