//! The reference evaluator: NetworkPolicy as the Kubernetes API describes it, on whole objects, one packet at a time.
//!
//! It knows no identities, rows or classes. In two points the API leaves room, and this is what the project does:
//! a port by name means every number that it has in pods with the same namespace, service account and labels (pods of one
//! identity are judged alike), and towards an ipBlock it means nothing.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::object::{
    Direction, IpBlock, Namespace, NetworkPolicy, Peer, Pod, PolicyPort, PolicyRule, PolicyType, PortRef, Protocol,
};

/// All objects that matter.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
}

/// A packet of a new connection from or to a subject.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub direction: Direction,
    pub peer: Option<&'a Pod>,
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl World {
    /// Whether the policies that select `subject` let the packet pass.
    pub fn allows(&self, subject: &Pod, packet: &Packet<'_>) -> bool {
        let selects = |policy: &&NetworkPolicy| {
            policy.name.namespace == subject.name.namespace
                && policy.pod_selector.matches(&subject.labels)
                && isolates(policy, packet.direction)
        };
        let mut isolating = self.policies.iter().filter(selects).peekable();
        isolating.peek().is_none()
            || isolating.any(|policy| {
                let rules = match packet.direction {
                    Direction::Ingress => &policy.ingress,
                    Direction::Egress => &policy.egress,
                };
                rules.iter().any(|rule| self.rule_allows(policy, subject, rule, packet))
            })
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

    fn peer_matches(&self, policy: &NetworkPolicy, peer: &Peer, packet: &Packet<'_>) -> bool {
        match (peer, packet.peer) {
            (Peer { ip_block: Some(block), pod_selector: None, namespace_selector: None }, _) => {
                block_contains(block, packet.address)
            }
            (Peer { ip_block: Some(_), .. }, _) => false,
            (Peer { pod_selector: None, namespace_selector: None, .. }, _) | (_, None) => false,
            (Peer { pod_selector, namespace_selector, .. }, Some(pod)) => {
                let namespace_matches = match namespace_selector {
                    None => pod.name.namespace == policy.name.namespace,
                    Some(selector) => self.namespace(pod).is_some_and(|namespace| selector.matches(&namespace.labels)),
                };
                namespace_matches && pod_selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
            }
        }
    }

    fn port_matches(&self, subject: &Pod, port: &PolicyPort, packet: &Packet<'_>, block: bool) -> bool {
        if port.protocol.as_deref().unwrap_or("TCP") != packet.protocol.to_string() {
            return false;
        }
        match (&port.port, port.end_port) {
            (None, None) => true,
            (None, Some(_)) | (Some(PortRef::Name(_)), Some(_)) => false,
            (Some(PortRef::Number(first)), end) => {
                let last = end.unwrap_or(*first);
                let valid = 1..=65_535;
                valid.contains(first) && valid.contains(&last) && (*first..=last).contains(&packet.port.into())
            }
            (Some(PortRef::Name(name)), None) => {
                let (named, known) = match packet.direction {
                    Direction::Ingress => (Some(subject), true),
                    Direction::Egress => (packet.peer, !block),
                };
                known && named.is_some_and(|pod| self.has_port(pod, name, packet))
            }
        }
    }

    fn has_port(&self, pod: &Pod, name: &str, packet: &Packet<'_>) -> bool {
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
            .any(|port| *port.name == *name && port.protocol == packet.protocol && port.port == packet.port)
    }

    fn namespace(&self, pod: &Pod) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.name == pod.name.namespace)
    }
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
