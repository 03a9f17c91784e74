//! Which rules are asked about the same packets, and of which others say all that they could.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr::from_ref;

use axoneme_proto::tables::{Action, PolicyMode, Tier};

use super::peers::Inhabitants;
use crate::compile::policy::{
    Dealings, HOST, ParsedPeer, ParsedPolicy, ParsedRule, PeerView, Reading, Source, Subject, Verdict,
};
use crate::diff::packets;
use crate::index::{Index, PolicyPart};
use crate::object::Direction;

/// A rule, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    pub(super) part: &'a PolicyPart,
    pub(super) direction: Direction,
    pub(super) parsed: &'a ParsedRule,
}

/// A rule that could be left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needless {
    /// Its number.
    pub(super) rule: usize,
    /// The rules that say it all: their numbers.
    pub(super) by: BTreeSet<usize>,
    /// They all go before it, so that it is never asked.
    pub(super) shadowed: bool,
}

/// All rules, and which of them are about the same packets.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// All of them, in the order of their policies.
    pub(super) rules: Vec<Rule<'a>>,
    /// Nobody's, whose numbers follow: by them some ways of nodes stay open.
    emergency: Vec<&'a ParsedRule>,
    /// Identities that each part of a policy selects; of nodes theirs.
    pub(super) subjects: BTreeMap<&'a PolicyPart, Vec<u32>>,
    /// For some packets the numbers of all rules that are about them, in the order in which they count. Packets about which are
    /// the same rules stand here once.
    lists: Vec<Vec<usize>>,
    /// For each rule the lists that it is in.
    lists_of: Vec<Vec<usize>>,
    /// Rules that are about packets of which nothing can be said here.
    spared: BTreeSet<usize>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        parts: impl Iterator<Item = (&'a PolicyPart, &'a ParsedPolicy)>,
        index: &'a Index,
        inhabitants: &Inhabitants,
    ) -> Self {
        let mut rules = Vec::new();
        for (part, parsed) in parts {
            for direction in [Direction::Ingress, Direction::Egress] {
                let said = &parsed.direction(direction).rules;
                rules.extend(said.iter().map(|parsed| Rule { part, direction, parsed }));
            }
        }
        let nodes: Vec<Subject<'a>> = index.nodes().filter_map(|node| index.host_subject(&node.name)).collect();
        let emergency: Vec<&ParsedRule> = nodes.first().into_iter().flat_map(emergency).collect();
        // Rules are told apart by where they stand in memory: the index lends the same ones to whoever asks.
        let all = rules.iter().map(|rule| rule.parsed).chain(emergency.iter().copied());
        let numbers: HashMap<*const ParsedRule, usize> = all.map(from_ref).zip(0..).collect();
        let mut subjects: BTreeMap<&PolicyPart, Vec<u32>> = BTreeMap::new();
        // Those that the same policies select are treated alike, if the names of their own ports mean the same numbers, too.
        let mut alike: BTreeMap<(Vec<&PolicyPart>, Vec<Vec<u16>>), Subject<'a>> = BTreeMap::new();
        for subject in inhabitants.identities.iter().filter_map(|id| index.subject(*id)).chain(nodes) {
            let parts: Vec<_> = subject.policies.iter().filter_map(|policy| policy.source.part()).collect();
            parts.iter().for_each(|part| subjects.entry(part).or_default().push(subject.identity));
            let rules = subject.policies.iter().flat_map(|policy| &policy.parsed.ingress.rules);
            let own =
                rules.flat_map(|rule| &rule.ports.named).map(|port| index.ports(subject.identity, port)).collect();
            alike.entry((parts, own)).or_insert(subject);
        }
        let (mut lists, mut spared) = (BTreeSet::new(), BTreeSet::new());
        for subject in alike.values() {
            for direction in [Direction::Ingress, Direction::Egress] {
                lists.extend(lists_of(subject, direction, index, inhabitants, &numbers));
                spared.extend(spared_of(subject, direction, index).filter_map(|rule| numbers.get(&from_ref(rule))));
            }
        }
        let lists: Vec<Vec<usize>> = lists.into_iter().collect();
        let mut lists_of = vec![Vec::new(); numbers.len()];
        for (number, list) in lists.iter().enumerate() {
            list.iter().for_each(|rule| lists_of[*rule].push(number));
        }
        Self { rules, emergency, subjects, lists, lists_of, spared }
    }

    /// Whether a rule is about no packet of its policy's pods.
    pub(super) fn never(&self, rule: usize) -> bool {
        self.lists_of[rule].is_empty() && !self.spared.contains(&rule)
    }

    /// Rules that could be left out, all together, and no packet would be treated otherwise. Of two that say the same it is the
    /// later one. Who allows what stays open anyway is not told: it may not always be.
    pub(super) fn needless(&self) -> Vec<Needless> {
        let mut candidates: Vec<usize> = (0..self.rules.len())
            .filter(|rule| !self.spared.contains(rule) && !self.lists_of[*rule].is_empty())
            .filter(|rule| self.instead(*rule, &BTreeSet::new()).is_some())
            .collect();
        // What is about less goes first, so that what contains it is what says it.
        candidates.sort_by_key(|rule| (self.lists_of[*rule].len(), std::cmp::Reverse(*rule)));
        let weight = |rule: usize| self.verdict(rule).weight();
        let (mut gone, mut found) = (BTreeSet::new(), Vec::new());
        for rule in candidates {
            let Some(by) = self.instead(rule, &gone) else { continue };
            let open = by.iter().all(|other| self.is_emergency(*other));
            if open && self.verdict(rule).action == Action::Allow {
                continue;
            }
            gone.insert(rule);
            let shadowed = by.iter().all(|other| weight(*other) < weight(rule));
            found.push(Needless { rule, by, shadowed });
        }
        found.sort_by_key(|needless| needless.rule);
        found
    }

    /// Whether it is nobody's.
    pub(super) fn is_emergency(&self, rule: usize) -> bool {
        rule >= self.rules.len()
    }

    /// A rule by its number.
    pub(super) fn parsed(&self, rule: usize) -> &'a ParsedRule {
        self.rules.get(rule).map_or_else(|| self.emergency[rule - self.rules.len()], |rule| rule.parsed)
    }

    fn verdict(&self, rule: usize) -> Verdict {
        self.parsed(rule).verdict
    }

    /// The rules that say, for each packet that `rule` is about, what makes it needless. None: it is needed for some.
    fn instead(&self, rule: usize, gone: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        self.lists_of[rule].iter().map(|list| self.instead_in(&self.lists[*list], rule, gone)).collect()
    }

    /// What in an earlier tier decides, what in its own goes before it, or what comes next there and says the same. That no rule
    /// says otherwise, or one of a later tier says the same, is not enough: a rule may be there for what others will say.
    fn instead_in(&self, list: &[usize], rule: usize, gone: &BTreeSet<usize>) -> Option<usize> {
        let verdict = |rule: usize| self.verdict(rule);
        let own = verdict(rule);
        let mut others = list.iter().copied().filter(|other| !gone.contains(other)).peekable();
        let mut tier = None;
        while let Some(other) = others.next() {
            let first = tier.replace(verdict(other).tier) != Some(verdict(other).tier);
            if other == rule {
                return others.next().filter(|next| {
                    let next = verdict(*next);
                    (next.tier, next.action) == (own.tier, own.action)
                });
            }
            if verdict(other).tier == own.tier || (first && verdict(other).action != Action::Pass) {
                return Some(other);
            }
        }
        None
    }
}

/// The rules by which some ways of a node stay open.
fn emergency<'a>(node: &Subject<'a>) -> impl Iterator<Item = &'a ParsedRule> + use<'a> {
    let nobodys = node.policies.iter().find(|policy| policy.source == Source::Emergency).map(|policy| policy.parsed);
    nobodys.into_iter().flat_map(|parsed| parsed.ingress.rules.iter().chain(&parsed.egress.rules))
}

/// For all packets that rules of a subject tell apart, the rules that are about them.
fn lists_of(
    subject: &Subject<'_>,
    direction: Direction,
    index: &Index,
    inhabitants: &Inhabitants,
    numbers: &HashMap<*const ParsedRule, usize>,
) -> BTreeSet<Vec<usize>> {
    let mut lists = BTreeSet::new();
    if subject.policies.iter().all(|policy| policy.parsed.direction(direction).rules.is_empty()) {
        return lists;
    }
    // A rule of a policy that only audits stands in some lists and not in others, and makes a rule needless only where it does.
    let audits = subject.policies.iter().any(|policy| policy.parsed.audits);
    let readings = if audits { &[Reading::Enforced, Reading::Audited][..] } else { &[Reading::Enforced] };
    for peer in inhabitants.peers(subject, direction, index) {
        for reading in readings {
            let dealings = Dealings::of(subject, index, PolicyMode::Default, direction, peer, *reading);
            for (protocol, port) in packets(dealings.keys()) {
                if inhabitants.fits(&peer, protocol) {
                    let rules = dealings.decide(protocol, port).rules;
                    lists
                        .insert(rules.iter().filter_map(|asked| numbers.get(&from_ref(asked.rule)).copied()).collect());
                }
            }
        }
    }
    lists.remove(&Vec::new());
    lists
}

/// Rules that are about whom nothing is known of: the node that runs the pod, which always reaches it; nodes and an API server
/// that nobody has told of; and of the last tier, where it does not come to it. To a node it is itself, which sends itself nothing.
fn spared_of<'a>(subject: &Subject<'a>, direction: Direction, index: &Index) -> impl Iterator<Item = &'a ParsedRule> {
    let isolated = subject.policies.iter().any(|policy| policy.parsed.direction(direction).isolates);
    let (nodes, api_server) = (index.nodes().next().is_some(), !index.api_server().is_empty());
    let unknown = move |peer: &ParsedPeer| match peer {
        ParsedPeer::Node(HOST) => direction == Direction::Ingress && subject.identity != HOST,
        ParsedPeer::Nodes(_) => !nodes,
        ParsedPeer::ApiServer => !api_server,
        _ => false,
    };
    let rules: Vec<_> = subject.policies.iter().flat_map(|policy| &policy.parsed.direction(direction).rules).collect();
    let spared =
        move |rule: &&ParsedRule| (isolated && rule.verdict.tier == Tier::Baseline) || rule.peers.iter().any(unknown);
    rules.into_iter().filter(spared)
}
