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

use super::parsed::{Mention, Mentioned, Owners, ParsedDirection, ParsedPolicy, ParsedRule, Verdict};
use crate::engine::{Diagnostic, Reason};
use crate::object::{CiliumPolicy, CiliumRule, Direction, Operator, Requirement, Selector};
use clause::Clause;

/// What comes later, and with which release.
const LAYER_7: &str = "policy on layer 7 comes with release 0.2";
const DNS: &str = "policy by DNS names comes with release 0.2";
const AUTHENTICATION: &str = "mutual authentication comes with release 0.3";
const CLOUD: &str = "groups of a cloud come with release 0.4";
const HOST_POLICY: &str = "policies of nodes come with release 0.2";

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

/// Reads `policy`, whose CIDRs mean addresses of `cidrs_of`: pods are known by what they are, nodes as the configuration has it.
#[must_use]
pub fn parse(policy: &CiliumPolicy, cidrs_of: Owners) -> Parsed {
    let namespace = Some(&*policy.name.namespace).filter(|namespace| !namespace.is_empty());
    let mut parser = Parser { namespace, cidrs_of, diagnostics: Vec::new(), mentions: Vec::new() };
    let parts = policy.rules.iter().filter_map(|rule| parser.rule(rule, policy.audits)).collect();
    parser.diagnostics.sort();
    parser.diagnostics.dedup();
    let Parser { diagnostics, mentions, .. } = parser;
    Parsed { parts, diagnostics, mentions }
}

struct Parser<'a> {
    /// Of the policy; none: clusterwide.
    namespace: Option<&'a str>,
    cidrs_of: Owners,
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
        let Some(selector) = &rule.endpoint_selector else {
            let message = format!("{HOST_POLICY}: this one has no effect yet");
            self.tell(Reason::NotImplemented, format!("{field}.nodeSelector"), message);
            return None;
        };
        let (subject, understood) = self.subject(&format!("{field}.endpointSelector"), selector);
        let wanted = rule.enable_default_deny.clone().unwrap_or_default();
        let ingress = self.direction(Clause::all_of(rule, field, Direction::Ingress), wanted.ingress, understood);
        let egress = self.direction(Clause::all_of(rule, field, Direction::Egress), wanted.egress, understood);
        let log = rule.log.as_ref().and_then(|log| log.value.as_deref()).filter(|text| !text.is_empty()).map(Box::from);
        Some(ParsedPolicy { subject, ingress, egress, audits, log })
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

    /// Whom a rule is about, and whether that is clear. If not, it is about whom it could mean and allows nothing.
    fn subject(&mut self, field: &str, selector: &axoneme_crds::meta::LabelSelector) -> (Arc<Selector>, bool) {
        let all = peers::requirements(selector);
        let own = |r: &Requirement| self.namespace.is_some() && peers::is_namespace(r);
        if all.iter().any(own) {
            let message = "a policy is about pods of its own namespace, whatever namespace its selector names";
            self.tell(Reason::InvalidField, field, message);
        }
        let namespace = self.namespace.map(peers::in_namespace);
        let mut kept: Vec<_> =
            all.into_iter().filter(|r| self.namespace.is_none() || !peers::is_namespace(r)).collect();
        let mut understood = true;
        for requirement in &kept {
            if let Operator::Unknown(text) = &requirement.operator {
                let message =
                    format!("{text:?} is no operator: the rule is about whom it could mean and allows nothing");
                self.tell(Reason::InvalidField, field, message);
                understood = false;
            }
            self.check(field, requirement);
        }
        kept.retain(|r| !matches!(r.operator, Operator::Unknown(_)));
        kept.extend(namespace);
        kept.sort();
        (Arc::new(Selector { requirements: kept.into() }), understood)
    }
}
