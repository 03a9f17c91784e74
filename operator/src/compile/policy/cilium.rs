//! CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies, read and checked.
//!
//! What cannot be meant, or is not there yet, is told, and counts for as little as possible: in a rule that allows it allows
//! nothing, in a rule that denies it denies whatever it may mean.

mod clause;
mod peers;
mod ports;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2::policy::Rule;

use super::parsed::{Mention, Mentioned, Owners, ParsedDirection, ParsedPolicy, ParsedRule, Subjects, Verdict};
use crate::engine::{Diagnostic, Reason};
use crate::object::{CiliumPolicy, CiliumRule, Direction, Operator, Requirement, Selector};
use clause::Clause;

/// What comes later, and with which release.
const LAYER_7: &str = "policy on layer 7 comes with release 0.2";
const DNS: &str = "policy by DNS names comes with release 0.2";
const AUTHENTICATION: &str = "mutual authentication comes with release 0.3";
const CLOUD: &str = "groups of a cloud come with release 0.4";

/// What of the configuration the meaning of policies depends on.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose addresses CIDRs mean: pods are known by what they are, nodes as the configuration has it.
    pub cidrs_of: Owners,
    /// Policies of nodes hold.
    pub host_firewall: bool,
}

/// What a policy says.
#[derive(Debug)]
pub struct Parsed {
    /// One for each of its rules.
    pub parts: Vec<ParsedPolicy>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
    /// The objects that it names.
    pub mentions: Vec<Mention>,
}

/// Reads `policy`.
#[must_use]
pub fn parse(policy: &CiliumPolicy, options: Options) -> Parsed {
    let namespace = Some(&*policy.name.namespace).filter(|namespace| !namespace.is_empty());
    let mut parser = Parser { namespace, options, diagnostics: Vec::new(), mentions: Vec::new() };
    let parts = policy.rules.iter().filter_map(|rule| parser.rule(rule, policy.audits)).collect();
    parser.diagnostics.sort();
    parser.diagnostics.dedup();
    let Parser { diagnostics, mentions, .. } = parser;
    Parsed { parts, diagnostics, mentions }
}

struct Parser<'a> {
    /// Of the policy; none: clusterwide.
    namespace: Option<&'a str>,
    options: Options,
    diagnostics: Vec<Diagnostic>,
    mentions: Vec<Mention>,
}

impl Parser<'_> {
    fn tell(&mut self, reason: Reason, field: impl Into<Box<str>>, message: impl Into<Box<str>>) {
        self.diagnostics.push(Diagnostic { reason, field: field.into(), message: message.into() });
    }

    /// A field without a meaning.
    fn invalid(&mut self, clause: &Clause<'_>, field: impl Display, message: impl Display) {
        self.tell(Reason::InvalidField, clause.path(field), format!("{message}: {}", clause.effect()));
    }

    /// A field that nothing is done with yet.
    fn later(&mut self, clause: &Clause<'_>, field: impl Display, what: &str) {
        self.tell(Reason::NotImplemented, clause.path(field), format!("{what}: until then this {}", clause.effect()));
    }

    /// A field that names an object.
    fn mention(&mut self, clause: &Clause<'_>, field: impl Display, object: Mentioned) {
        self.mentions.push(Mention { field: clause.path(field).into(), object });
    }

    fn rule(&mut self, rule: &CiliumRule, audits: bool) -> Option<ParsedPolicy> {
        if let Some((field, message)) = &rule.unreadable {
            self.tell(Reason::InvalidField, field.clone(), message.clone());
        }
        let (field, rule) = (&*rule.field, &rule.rule);
        let (subjects, by, understood) = self.subjects(field, rule)?;
        let wanted = rule.enable_default_deny.clone().unwrap_or_default();
        let ingress = self.direction(Clause::all_of(rule, field, Direction::Ingress), wanted.ingress, understood);
        let egress = self.direction(Clause::all_of(rule, field, Direction::Egress), wanted.egress, understood);
        let log = rule.log.as_ref().and_then(|log| log.value.as_deref()).filter(|text| !text.is_empty()).map(Box::from);
        Some(ParsedPolicy { subjects, field: by, ingress, egress, audits, log })
    }

    /// Whom a rule is about, the field that says so, and whether that is clear; none: nobody.
    fn subjects(&mut self, field: &str, rule: &Rule) -> Option<(Subjects, Box<str>, bool)> {
        let (by_labels, by_node) = (format!("{field}.endpointSelector"), format!("{field}.nodeSelector"));
        let none = match (&rule.endpoint_selector, &rule.node_selector) {
            (Some(pods), nodes) => {
                if nodes.is_some() {
                    let message = "cannot stand beside endpointSelector: the rule is about pods only";
                    self.tell(Reason::InvalidField, by_node, message);
                }
                let (subject, understood) = self.pods(&by_labels, pods);
                return Some((Subjects::Pods(subject), by_labels.into(), understood));
            }
            (None, Some(nodes)) if self.namespace.is_none() && self.options.host_firewall => {
                let (subject, understood) = self.nodes(&by_node, nodes);
                return Some((Subjects::Nodes(subject), by_node.into(), understood));
            }
            (None, Some(_)) if self.namespace.is_some() => {
                (Reason::InvalidField, "only a CiliumClusterwideNetworkPolicy is about nodes: this one has no effect")
            }
            (None, Some(_)) => (Reason::NotEnabled, "hostFirewall.enabled is false: this one has no effect"),
            (None, None) => (Reason::InvalidField, "is absent, and endpointSelector too: the rule is about nobody"),
        };
        self.tell(none.0, by_node, none.1);
        None
    }

    /// A direction is isolated when it has a rule, unless `wanted` says otherwise.
    fn direction(&mut self, clauses: Vec<Clause<'_>>, wanted: Option<bool>, understood: bool) -> ParsedDirection {
        let isolates = wanted.unwrap_or(!clauses.is_empty());
        let rules = clauses.iter().map(|clause| self.clause(clause));
        let counts = |rule: &ParsedRule| understood || rule.verdict == Verdict::DENY;
        ParsedDirection { isolates, rules: rules.filter(counts).collect() }
    }

    fn clause(&mut self, clause: &Clause<'_>) -> ParsedRule {
        let verdict = if clause.denies { Verdict::DENY } else { Verdict::ALLOW };
        let field = clause.field.as_str().into();
        if clause.authentication.is_some_and(|authentication| authentication.mode != "disabled") {
            self.later(clause, "authentication", AUTHENTICATION);
            return ParsedRule { field, verdict, peers: Vec::new(), ports: Default::default() };
        }
        ParsedRule { field, verdict, peers: self.peers(clause), ports: self.ports(clause) }
    }

    /// The pods that a rule is about, and whether that is clear. If not, it is about whom it could mean and allows nothing.
    fn pods(&mut self, field: &str, selector: &LabelSelector) -> (Arc<Selector>, bool) {
        let all = peers::requirements(selector);
        let own = |r: &Requirement| self.namespace.is_some() && peers::is_namespace(r);
        if all.iter().any(own) {
            let message = "a policy is about pods of its own namespace, whatever namespace its selector names";
            self.tell(Reason::InvalidField, field, message);
        }
        let namespace = self.namespace.map(peers::in_namespace);
        let mut kept: Vec<_> =
            all.into_iter().filter(|r| self.namespace.is_none() || !peers::is_namespace(r)).collect();
        let understood = self.understood(field, &mut kept);
        kept.iter().for_each(|requirement| self.check(field, requirement));
        kept.extend(namespace);
        kept.sort();
        (Arc::new(Selector { requirements: kept.into() }), understood)
    }

    /// The same of nodes.
    fn nodes(&mut self, field: &str, selector: &LabelSelector) -> (Selector, bool) {
        let mut kept = peers::of_nodes(selector);
        let understood = self.understood(field, &mut kept);
        kept.sort();
        (Selector { requirements: kept.into() }, understood)
    }

    /// Leaves out what of a subject has no meaning; whether nothing was.
    fn understood(&mut self, field: &str, requirements: &mut Vec<Requirement>) -> bool {
        let before = requirements.len();
        requirements.retain(|requirement| {
            let Operator::Unknown(text) = &requirement.operator else { return true };
            let message = format!("{text:?} is no operator: the rule is about whom it could mean and allows nothing");
            self.tell(Reason::InvalidField, field, message);
            false
        });
        requirements.len() == before
    }
}
