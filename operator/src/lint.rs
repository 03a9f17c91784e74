//! What is wrong with the policies that there are, beside what they allow: rules that are about nobody, that others say, that are
//! not what somebody meant them to be.
//!
//! Everything is decided for the objects of a state, by the rules that the compiler reads from them: a finding may be gone when
//! other pods are there.

mod asked;
mod classes;
mod described;
mod nobody;
mod peers;
mod words;
mod written;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::compile::policy::{HOST, ParsedPeer, ParsedPolicy, Source, Subjects};
use crate::diff::{Settings, State, indexed};
use crate::index::{Index, PolicyPart};
use crate::object::{Kind, ObjectKey};
use asked::{Asked, Needless, Rule};
use peers::Inhabitants;
use words::Said;

/// The node that runs a pod; to a node itself.
const OWN: ParsedPeer = ParsedPeer::Node(HOST);
/// More rules are counted.
const NAMED: usize = 3;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A field is not enforced as it is written.
    NotEnforced,
    /// A policy selects no pod, or no node.
    SelectsNothing,
    /// A rule is about nobody and nothing.
    NeverMatches,
    /// One of a rule's peers is nobody.
    PeerMatchesNothing,
    /// No pod has a port of a name that a rule uses.
    PortMatchesNothing,
    /// Of all that a rule is about others decide before it.
    Shadowed,
    /// Of all that a rule is about others say the same.
    Redundant,
    /// A rule opens what the description of its policy does not speak of.
    OpensMoreThanDescribed,
    /// An empty list means something else than its absence, or than it seems to.
    EmptyList,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NotEnforced,
        Self::SelectsNothing,
        Self::NeverMatches,
        Self::PeerMatchesNothing,
        Self::PortMatchesNothing,
        Self::Shadowed,
        Self::Redundant,
        Self::OpensMoreThanDescribed,
        Self::EmptyList,
    ];

    /// As people and programs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotEnforced => "not-enforced",
            Self::SelectsNothing => "selects-nothing",
            Self::NeverMatches => "never-matches",
            Self::PeerMatchesNothing => "peer-matches-nothing",
            Self::PortMatchesNothing => "port-matches-nothing",
            Self::Shadowed => "shadowed",
            Self::Redundant => "redundant",
            Self::OpensMoreThanDescribed => "opens-more-than-described",
            Self::EmptyList => "empty-list",
        }
    }
}

/// Something that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The policy.
    pub policy: ObjectKey,
    /// Path of the field, like `spec.ingress[0]`.
    pub field: String,
    /// What it is.
    pub code: Code,
    /// In words.
    pub message: String,
    /// What to do about it; empty where that is plain.
    pub advice: &'static str,
}

/// What is wrong with all policies of a state, sorted.
#[must_use]
pub fn lint(state: &State, settings: &Settings) -> Vec<Finding> {
    let index = indexed(state, settings, &mut HashMap::new());
    let policies = state.objects().filter_map(|(key, _)| Some((key, index.policy(key)?)));
    let parts: Vec<(PolicyPart, &ParsedPolicy)> = policies
        .flat_map(|(key, entry)| {
            let part = move |index| PolicyPart { policy: key.clone(), index };
            (0..).zip(&entry.parts).map(move |(index, parsed)| (part(index), parsed))
        })
        .collect();
    let inhabitants = Inhabitants::of(&index);
    let parts = || parts.iter().map(|(part, parsed)| (part, *parsed));
    let asked = Asked::new(parts(), &index, &inhabitants);
    let linter = Linter { state, index: &index, inhabitants: &inhabitants, asked: &asked };
    let mut findings = Vec::new();
    for (key, _) in state.objects() {
        linter.policy(key, &mut findings);
    }
    parts().for_each(|(part, parsed)| linter.part(part, parsed, &mut findings));
    // Where there are no pods, nothing can be said of whom policies mean.
    if !inhabitants.identities.is_empty() {
        asked.rules.iter().enumerate().for_each(|(number, rule)| linter.rule(number, rule, &mut findings));
        findings.extend(asked.needless().iter().map(|needless| linter.needless(needless)));
    }
    linter.descriptions(&mut findings);
    findings.sort();
    findings.dedup();
    findings
}

struct Linter<'a> {
    state: &'a State,
    index: &'a Index,
    inhabitants: &'a Inhabitants,
    asked: &'a Asked<'a>,
}

impl Linter<'_> {
    /// What a policy says of itself.
    fn policy(&self, key: &ObjectKey, findings: &mut Vec<Finding>) {
        let Some(entry) = self.index.policy(key) else { return };
        findings.extend(entry.diagnostics.iter().map(|diagnostic| Finding {
            policy: key.clone(),
            field: diagnostic.field.to_string(),
            code: Code::NotEnforced,
            message: diagnostic.message.to_string(),
            advice: "",
        }));
        let empty = written::cilium(key, self.state).map(written::empty_lists).unwrap_or_default();
        findings.extend(empty.into_iter().map(|list| {
            let (message, advice) = if list.of_peers {
                ("is empty, and so about nobody", "leave the list out to mean everybody, write [{}] to mean all of it")
            } else {
                ("is empty, and so about all ports", "leave the list out if all ports are meant, or name some")
            };
            Finding {
                policy: key.clone(),
                field: list.field,
                code: Code::EmptyList,
                message: message.to_owned(),
                advice,
            }
        }));
    }

    fn part(&self, part: &PolicyPart, parsed: &ParsedPolicy, findings: &mut Vec<Finding>) {
        // Where nobody is told of, nothing is known of them.
        let (known, message, advice) = match &parsed.subjects {
            Subjects::Pods(pods) => (
                !self.inhabitants.identities.is_empty(),
                format!("no pod {}", nobody::pods(pods)),
                "correct the labels, or delete the policy if its pods are gone",
            ),
            Subjects::Nodes(nodes) => (
                self.index.nodes().next().is_some(),
                nobody::nodes(nodes),
                "correct the labels, or delete the policy if its nodes are gone",
            ),
        };
        if known && !self.asked.subjects.contains_key(part) {
            let (policy, field) = (part.policy.clone(), parsed.field.to_string());
            findings.push(Finding { policy, field, code: Code::SelectsNothing, message, advice });
        }
    }

    /// What of a rule is about nobody; nothing is said of a rule that is there to isolate only (`ingress: [{}]`).
    fn rule(&self, number: usize, rule: &Rule<'_>, findings: &mut Vec<Finding>) {
        let Some(subjects) = self.asked.subjects.get(rule.part) else { return };
        let key = &rule.part.policy;
        let field = &*rule.parsed.field;
        let (peers, ports) = (nobody::peers(rule, self.index), nobody::ports(rule, subjects, self.index));
        let found = |code, message: String, advice| Finding {
            policy: key.clone(),
            field: field.to_owned(),
            code,
            message,
            advice,
        };
        let advice = "correct it, or delete it if nobody is to come";
        if !self.asked.never(number) {
            findings.extend(peers.into_iter().map(|message| found(Code::PeerMatchesNothing, message, advice)));
            findings.extend(ports.into_iter().map(|message| found(Code::PortMatchesNothing, message, advice)));
            return;
        }
        let entities = || written::entities(field, written::cilium(key, self.state)?);
        let told = |finding: &&Finding| {
            let inner = finding.field.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            finding.policy == *key && inner
        };
        let reasons: Vec<String> = peers.into_iter().chain(ports).collect();
        let reason = match (rule.parsed.peers.is_empty() || rule.parsed.ports == Default::default(), entities()) {
            (true, Some(entities)) => format!("nobody here is of the entities {entities}"),
            (true, None) => return,
            _ if reasons.is_empty() && subjects.contains(&HOST) && rule.parsed.peers.contains(&OWN) => {
                "to a node the host is itself, and what it sends itself is not judged".to_owned()
            }
            _ if reasons.is_empty() => "nobody that it names has addresses of the family that it is about".to_owned(),
            _ => reasons.join("; "),
        };
        if !findings.iter().any(|finding| told(&finding)) {
            findings.push(found(Code::NeverMatches, format!("is about nobody: {reason}"), advice));
        }
    }

    fn needless(&self, needless: &Needless) -> Finding {
        let rule = &self.asked.rules[needless.rule];
        let found = |code, message, advice| {
            let (policy, field) = (rule.part.policy.clone(), rule.parsed.field.to_string());
            Finding { policy, field, code, message, advice }
        };
        if needless.by.iter().all(|other| self.asked.is_emergency(*other)) {
            let ways: BTreeSet<&str> = needless.by.iter().map(|other| &*self.asked.parsed(*other).field).collect();
            let ways = ways.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("has no effect: what it is about stays open whatever policies say ({ways})");
            return found(Code::Shadowed, message, OPEN);
        }
        let of = |other: &usize| match self.asked.rules.get(*other) {
            Some(other) if other.part.policy == rule.part.policy => other.parsed.field.to_string(),
            Some(other) => format!("{} of {}", other.parsed.field, other.part.policy),
            None => format!("{} of {}", self.asked.parsed(*other).field, Source::Emergency.label()),
        };
        let mut others: Vec<String> = needless.by.iter().map(of).collect();
        let (more, one) = (others.len().saturating_sub(NAMED), others.len() == 1);
        others.truncate(NAMED);
        others.extend((more > 0).then(|| format!("{more} more")));
        let others = others.join(", ");
        let (code, message, advice) = match (needless.shadowed, one) {
            (true, true) => (Code::Shadowed, format!("{others} goes before it in all that it is about"), SHADOWED),
            (true, false) => (Code::Shadowed, format!("{others} go before it in all that it is about"), SHADOWED),
            (false, true) => (Code::Redundant, format!("{others} says the same of all that it is about"), REDUNDANT),
            (false, false) => (Code::Redundant, format!("{others} say the same of all that it is about"), REDUNDANT),
        };
        found(code, message, advice)
    }

    fn descriptions(&self, findings: &mut Vec<Finding>) {
        let namespaces: BTreeSet<Arc<str>> = self
            .state
            .objects()
            .filter(|(key, _)| key.kind == Kind::Namespace)
            .map(|(key, _)| Arc::clone(&key.name.name))
            .collect();
        // What is about nobody of the policy's pods opens nothing.
        let idle = |number, rule: &Rule<'_>| self.asked.subjects.contains_key(rule.part) && self.asked.never(number);
        for (_, rule) in self.asked.rules.iter().enumerate().filter(|(number, rule)| !idle(*number, rule)) {
            let name = rule.part.policy.name.name.replace('-', " ");
            let descriptions = written::descriptions(&rule.parsed.field, &rule.part.policy, self.state);
            let said = Said::by(descriptions.iter().copied().chain([&*name]));
            let subjects = self.asked.subjects.get(rule.part).map_or(&[][..], |all| all);
            let judge = described::Judge {
                said: &said,
                subjects,
                index: self.index,
                inhabitants: self.inhabitants,
                namespaces: &namespaces,
            };
            let by = if descriptions.is_empty() { "name" } else { "description" };
            findings.extend(judge.beyond(rule).into_iter().map(|beyond| Finding {
                policy: rule.part.policy.clone(),
                field: rule.parsed.field.to_string(),
                code: Code::OpensMoreThanDescribed,
                message: format!("opens {beyond}, of which the policy's {by} does not speak"),
                advice: "",
            }));
        }
    }
}

const OPEN: &str = "delete it; of the ways that stay open to nodes hostFirewall.emergencyPorts names some";
const SHADOWED: &str = "delete it, or have it go first";
const REDUNDANT: &str = "delete it, as long as a rule is left to isolate the pods";
