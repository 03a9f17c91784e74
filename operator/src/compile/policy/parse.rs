//! One NetworkPolicy, read and checked.

use std::sync::Arc;

use axoneme_proto::tables::AnyPeer;
use ipnet::IpNet;

use super::parsed::{Owners, ParsedDirection, ParsedPeer, ParsedPolicy, ParsedRule, Subjects, Verdict};
use super::ports::{NamedPort, PortKey, PortSet};
use crate::engine::{Diagnostic, Reason};
use crate::index::labels;
use crate::object::{
    IpBlock, NetworkPolicy, Operator, Peer, PolicyPort, PolicyRule, PolicyType, PortRef, Protocol, Requirement,
    Selector,
};

/// Reads `policy`. What cannot be meant is left out, so that it allows nothing, and told.
#[must_use]
pub fn parse(policy: &NetworkPolicy) -> (ParsedPolicy, Vec<Diagnostic>) {
    let mut parser = Parser { namespace: Some(&policy.name.namespace), diagnostics: Vec::new() };
    let (ingress, egress) = parser.directions(policy);
    let (subject, understood) = parser.subject(policy);
    let mut direction = |isolates: bool, field: &str, rules: &[PolicyRule]| {
        // What a direction that is not isolated would allow is allowed anyway.
        let rules = rules.iter().enumerate().filter(|_| isolates);
        let rules = rules.map(|(i, rule)| parser.rule(&format!("spec.{field}[{i}]"), field, rule));
        ParsedDirection { isolates, rules: rules.filter(|_| understood).collect() }
    };
    let (ingress, egress) =
        (direction(ingress, "ingress", &policy.ingress), direction(egress, "egress", &policy.egress));
    let (subjects, field) = (Subjects::Pods(subject), "spec.podSelector".into());
    let parsed = ParsedPolicy { subjects, field, ingress, egress, audits: policy.audits, log: None };
    (parsed, parser.into_diagnostics())
}

/// What of a selector makes sense: less of it selects more.
pub(super) fn known(selector: &Selector) -> Arc<Selector> {
    let known = |r: &&Requirement| !matches!(r.operator, Operator::Unknown(_));
    Arc::new(Selector { requirements: selector.requirements.iter().filter(known).cloned().collect() })
}

/// Reads what policies of Kubernetes have in common.
pub(super) struct Parser<'a> {
    /// Of the policy; none: clusterwide.
    namespace: Option<&'a Arc<str>>,
    diagnostics: Vec<Diagnostic>,
}

impl Parser<'_> {
    /// For a policy without a namespace.
    pub(super) const fn clusterwide() -> Self {
        Self { namespace: None, diagnostics: Vec::new() }
    }

    /// All that was told.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort();
        self.diagnostics.dedup();
        self.diagnostics
    }

    /// How many fields had no meaning so far.
    pub(super) fn invalid_so_far(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.reason == Reason::InvalidField).count()
    }

    pub(super) fn tell(&mut self, reason: Reason, field: String, message: impl Into<Box<str>>) {
        self.diagnostics.push(Diagnostic { reason, field: field.into(), message: message.into() });
    }

    pub(super) fn invalid(&mut self, field: String, message: impl Into<Box<str>>) {
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
        let known = known(&selector);
        let understood = known.requirements.len() == selector.requirements.len();
        (known, understood)
    }

    fn rule(&mut self, field: &str, direction: &str, rule: &PolicyRule) -> ParsedRule {
        let list = if direction == "ingress" { "from" } else { "to" };
        let ports = self.ports(field, &rule.ports);
        let said = |peers| ParsedRule { field: field.into(), verdict: Verdict::ALLOW, peers, ports };
        if rule.peers.is_empty() {
            return said(vec![ParsedPeer::Everything]);
        }
        let peers = rule.peers.iter().enumerate();
        let peers: Vec<_> = peers.filter_map(|(i, peer)| self.peer(&format!("{field}.{list}[{i}]"), peer)).collect();
        let rule = said(peers);
        let block = |peer: &ParsedPeer| matches!(peer, ParsedPeer::Block { .. });
        if direction == "egress" && !rule.ports.named.is_empty() && rule.peers.iter().any(block) {
            let message = "a port by name means a pod's container port: it never matches an ipBlock";
            self.invalid(format!("{field}.ports"), message);
        }
        rule
    }

    pub(super) fn peer(&mut self, field: &str, peer: &Peer) -> Option<ParsedPeer> {
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
                let namespace = self.namespace.cloned();
                let selector = self.pods(&format!("{field}.podSelector"), pods, namespace.as_deref());
                Some(ParsedPeer::Selected(Arc::new(selector)))
            }
            (Some(namespaces), pods, None) => {
                let pods = pods.as_ref().map(|pods| self.pods(&format!("{field}.podSelector"), pods, None));
                let namespaces = self.namespaces(&format!("{field}.namespaceSelector"), namespaces);
                let mut all: Vec<Requirement> =
                    namespaces.chain(pods.map(|p| p.requirements).into_iter().flatten()).collect();
                all.sort();
                if all.is_empty() {
                    return Some(ParsedPeer::Scope(AnyPeer::Pod));
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
        cidr.filter(|_| valid).map(|cidr| ParsedPeer::Block { cidr, except, of: Owners::All })
    }

    fn cidr(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let Ok(net) = text.parse::<IpNet>() else {
            self.invalid(field.to_owned(), format!("{text:?} is no CIDR: the block allows nothing"));
            return None;
        };
        Some(net.trunc())
    }

    pub(super) fn ports(&mut self, field: &str, ports: &[PolicyPort]) -> PortSet {
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
