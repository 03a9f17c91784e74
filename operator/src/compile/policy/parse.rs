//! One NetworkPolicy, read and checked.

use std::sync::Arc;

use ipnet::IpNet;

use super::ports::{NamedPort, PortKey, PortSet};
use crate::engine::{Diagnostic, Reason};
use crate::index::labels;
use crate::object::{
    IpBlock, NetworkPolicy, Operator, Peer, PolicyPort, PolicyRule, PolicyType, PortRef, Protocol, Requirement,
    Selector,
};

/// A policy in the terms of identities. Selectors stand for security labels, with sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPolicy {
    /// The identities that it isolates.
    pub subject: Arc<Selector>,
    /// Rules by direction; `None`: it says nothing about this direction.
    pub ingress: Option<Vec<ParsedRule>>,
    /// See `ingress`.
    pub egress: Option<Vec<ParsedRule>>,
}

impl ParsedPolicy {
    /// Selectors of peers, of both directions; one may occur more than once.
    pub fn peer_selectors(&self) -> impl Iterator<Item = &Arc<Selector>> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        rules.flat_map(|rule| &rule.peers).filter_map(|peer| match peer {
            ParsedPeer::Selected(selector) => Some(selector),
            ParsedPeer::Everything | ParsedPeer::AnyPod | ParsedPeer::Block { .. } => None,
        })
    }

    /// Whether a port by name depends on the peers' pods.
    #[must_use]
    pub fn names_ports_of_peers(&self) -> bool {
        self.egress.iter().flatten().any(|rule| !rule.ports.named.is_empty())
    }

    /// Whether a port by name depends on the subject's pods.
    #[must_use]
    pub fn names_ports_of_subjects(&self) -> bool {
        self.ingress.iter().flatten().any(|rule| !rule.ports.named.is_empty())
    }
}

/// A rule: these peers on these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRule {
    /// Any of them.
    pub peers: Vec<ParsedPeer>,
    /// Any of them.
    pub ports: PortSet,
}

/// A peer of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedPeer {
    /// Pods, nodes and the world.
    Everything,
    /// All pods of the cluster.
    AnyPod,
    /// Pods of identities with these labels.
    Selected(Arc<Selector>),
    /// Addresses, whoever has them.
    Block {
        /// In here,
        cidr: IpNet,
        /// but in none of these.
        except: Vec<IpNet>,
    },
}

/// Reads `policy`. What cannot be meant is left out, so that it allows nothing, and told.
#[must_use]
pub fn parse(policy: &NetworkPolicy) -> (ParsedPolicy, Vec<Diagnostic>) {
    let mut parser = Parser { namespace: &policy.name.namespace, diagnostics: Vec::new() };
    let (ingress, egress) = parser.directions(policy);
    let (subject, understood) = parser.subject(policy);
    let mut rules = |field: &str, rules: &[PolicyRule]| -> Vec<ParsedRule> {
        let rules = rules.iter().enumerate();
        let rules = rules.map(|(i, rule)| parser.rule(&format!("spec.{field}[{i}]"), field, rule));
        rules.filter(|_| understood).collect()
    };
    let parsed = ParsedPolicy {
        subject,
        ingress: ingress.then(|| rules("ingress", &policy.ingress)),
        egress: egress.then(|| rules("egress", &policy.egress)),
    };
    parser.diagnostics.sort();
    parser.diagnostics.dedup();
    (parsed, parser.diagnostics)
}

struct Parser<'a> {
    namespace: &'a Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn tell(&mut self, reason: Reason, field: String, message: impl Into<Box<str>>) {
        self.diagnostics.push(Diagnostic { reason, field: field.into(), message: message.into() });
    }

    fn invalid(&mut self, field: String, message: impl Into<Box<str>>) {
        self.tell(Reason::InvalidField, field, message);
    }

    /// Which directions the policy isolates. With an unknown type both, because it surely wanted to isolate something.
    fn directions(&mut self, policy: &NetworkPolicy) -> (bool, bool) {
        let Some(types) = policy.policy_types.as_deref().filter(|types| !types.is_empty()) else {
            return (true, !policy.egress.is_empty());
        };
        let mut directions = (false, false);
        for (i, kind) in types.iter().enumerate() {
            match kind {
                PolicyType::Ingress => directions.0 = true,
                PolicyType::Egress => directions.1 = true,
                PolicyType::Unknown(text) => {
                    self.invalid(
                        format!("spec.policyTypes[{i}]"),
                        format!("{text:?} is no policy type (Ingress, Egress): both directions are isolated"),
                    );
                    directions = (true, true);
                }
            }
        }
        directions
    }

    /// Whom the policy isolates, and whether that is clear. If not, it isolates whom it could mean and opens nothing.
    fn subject(&mut self, policy: &NetworkPolicy) -> (Arc<Selector>, bool) {
        let selector = self.pods("spec.podSelector", &policy.pod_selector, Some(&policy.name.namespace));
        let known = |r: &Requirement| !matches!(r.operator, Operator::Unknown(_));
        let understood = selector.requirements.iter().all(known);
        let requirements = selector.requirements.into_iter().filter(known).collect();
        (Arc::new(Selector { requirements }), understood)
    }

    fn rule(&mut self, field: &str, direction: &str, rule: &PolicyRule) -> ParsedRule {
        let list = if direction == "ingress" { "from" } else { "to" };
        let ports = self.ports(field, &rule.ports);
        if rule.peers.is_empty() {
            return ParsedRule { peers: vec![ParsedPeer::Everything], ports };
        }
        let peers = rule.peers.iter().enumerate();
        let peers: Vec<_> = peers.filter_map(|(i, peer)| self.peer(&format!("{field}.{list}[{i}]"), peer)).collect();
        if direction == "egress" && !ports.named.is_empty() {
            let block = peers.iter().position(|peer| matches!(peer, ParsedPeer::Block { .. }));
            if block.is_some() {
                let message = "a port by name means a pod's container port: it never matches an ipBlock";
                self.invalid(format!("{field}.ports"), message);
            }
        }
        ParsedRule { peers, ports }
    }

    fn peer(&mut self, field: &str, peer: &Peer) -> Option<ParsedPeer> {
        match (&peer.namespace_selector, &peer.pod_selector, &peer.ip_block) {
            (None, None, Some(block)) => self.block(field, block),
            (_, _, Some(_)) => {
                self.invalid(format!("{field}.ipBlock"), "excludes podSelector and namespaceSelector: allows nothing");
                None
            }
            (None, None, None) => {
                self.invalid(field.to_owned(), "names no peer: allows nothing");
                None
            }
            (None, Some(pods), None) => {
                let namespace = Arc::clone(self.namespace);
                let selector = self.pods(&format!("{field}.podSelector"), pods, Some(&namespace));
                Some(ParsedPeer::Selected(Arc::new(selector)))
            }
            (Some(namespaces), pods, None) => {
                let pods = pods.as_ref().map(|pods| self.pods(&format!("{field}.podSelector"), pods, None));
                let namespaces = self.namespaces(&format!("{field}.namespaceSelector"), namespaces);
                let mut all: Vec<Requirement> =
                    namespaces.chain(pods.map(|p| p.requirements).into_iter().flatten()).collect();
                all.sort();
                if all.is_empty() {
                    return Some(ParsedPeer::AnyPod);
                }
                Some(ParsedPeer::Selected(Arc::new(Selector { requirements: all.into() })))
            }
        }
    }

    /// A pod selector as one on security labels, confined to a namespace if one is given.
    fn pods(&mut self, field: &str, selector: &Selector, namespace: Option<&str>) -> Selector {
        self.check(field, selector, labels::is_relevant);
        let key = |key: &str| format!("{}{key}", labels::SOURCE).into();
        let mut all: Vec<Requirement> =
            selector.requirements.iter().map(|r| Requirement { key: key(&r.key), ..r.clone() }).collect();
        all.extend(namespace.map(|namespace| Requirement {
            key: key(labels::NAMESPACE),
            operator: Operator::In,
            values: [namespace.into()].into(),
        }));
        all.sort();
        Selector { requirements: all.into() }
    }

    fn namespaces<'s>(&mut self, field: &str, selector: &'s Selector) -> impl Iterator<Item = Requirement> + use<'s> {
        self.check(field, selector, |key| labels::is_relevant(&format!("{}.{key}", labels::NAMESPACE_LABELS)));
        let translate = |r: &Requirement| Requirement { key: labels::namespace_key(&r.key).into(), ..r.clone() };
        selector.requirements.iter().map(translate)
    }

    fn check(&mut self, field: &str, selector: &Selector, relevant: impl Fn(&str) -> bool) {
        for requirement in &selector.requirements {
            if let Operator::Unknown(text) = &requirement.operator {
                self.invalid(field.to_owned(), format!("{text:?} is no operator: the selector matches nothing"));
            }
            if !relevant(&requirement.key) {
                let message = format!(
                    "label {:?} is not part of identities, so the selector takes it as absent everywhere",
                    requirement.key
                );
                self.tell(Reason::LabelNotInIdentity, field.to_owned(), message);
            }
        }
    }

    fn block(&mut self, field: &str, block: &IpBlock) -> Option<ParsedPeer> {
        let cidr_field = format!("{field}.ipBlock.cidr");
        let cidr = self.cidr(&cidr_field, &block.cidr);
        let mut except = Vec::new();
        let mut valid = cidr.is_some();
        for (i, text) in block.except.iter().enumerate() {
            let field = format!("{field}.ipBlock.except[{i}]");
            let Some(net) = self.cidr(&field, text) else {
                // Nobody can know what should not be allowed, so nothing is.
                valid = false;
                continue;
            };
            match cidr {
                Some(cidr) if net == cidr || net.contains(&cidr) => {
                    self.invalid(field, format!("{net} contains the whole block {cidr}: allows nothing"));
                    valid = false;
                }
                Some(cidr) if !cidr.contains(&net) => {
                    self.invalid(field, format!("{net} is not inside {cidr}: excepts nothing"));
                }
                _ => except.push(net),
            }
        }
        except.sort();
        except.dedup();
        cidr.filter(|_| valid).map(|cidr| ParsedPeer::Block { cidr, except })
    }

    fn cidr(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let Ok(net) = text.parse::<IpNet>() else {
            self.invalid(field.to_owned(), format!("{text:?} is no CIDR: the block allows nothing"));
            return None;
        };
        Some(net.trunc())
    }

    fn ports(&mut self, field: &str, ports: &[PolicyPort]) -> PortSet {
        if ports.is_empty() {
            return PortSet { keys: vec![PortKey::ANY], named: Vec::new() };
        }
        let mut set = PortSet::default();
        for (i, port) in ports.iter().enumerate() {
            self.port(&format!("{field}.ports[{i}]"), port, &mut set);
        }
        set.keys.sort_unstable();
        set.keys.dedup();
        set.named.sort_unstable();
        set.named.dedup();
        set
    }

    fn port(&mut self, field: &str, port: &PolicyPort, set: &mut PortSet) {
        let text = port.protocol.as_deref().unwrap_or("TCP");
        let Some(protocol) = Protocol::from_kubernetes(text) else {
            return self.invalid(format!("{field}.protocol"), format!("{text:?} is no protocol: allows nothing"));
        };
        match (&port.port, port.end_port) {
            (None, None) => set.keys.push(PortKey::all(protocol)),
            (None, Some(_)) => self.invalid(format!("{field}.endPort"), "needs a port: allows nothing"),
            (Some(PortRef::Name(name)), None) => set.named.push(NamedPort { name: name.clone(), protocol }),
            (Some(PortRef::Name(_)), Some(_)) => {
                self.invalid(format!("{field}.endPort"), "needs a port that is a number: allows nothing");
            }
            (Some(PortRef::Number(first)), end) => {
                let Some(first) = valid_port(*first) else {
                    return self.invalid(format!("{field}.port"), format!("{first} is no port: allows nothing"));
                };
                let last = end.map_or(Some(first), valid_port);
                match last.filter(|last| *last >= first) {
                    Some(last) => set.keys.extend(PortKey::range(protocol, first, last)),
                    None => self.invalid(
                        format!("{field}.endPort"),
                        format!("{} is no port from {first} on: allows nothing", end.unwrap_or_default()),
                    ),
                }
            }
        }
    }
}

fn valid_port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}
