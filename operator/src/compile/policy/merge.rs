//! All policies of one subject identity, merged into its row.

use std::collections::{BTreeMap, HashMap};

use axoneme_proto::tables::{
    Action, AnyPeer, PeerRules, Policy, PolicyDirection, PolicyMode, PortRule, Tier, TierVerdict, peer_rules,
};

use super::cidr::{Block, classes};
use super::parse::{ParsedPeer, ParsedPolicy, ParsedRule};
use super::policy_label;
use super::ports::{NamedPort, PortKey, flatten, same_rules};
use crate::object::{Direction, Name, Selector};

/// Which identities there are: what the compiler needs of the index.
pub trait PeerView {
    /// Identities with these labels.
    fn selected(&self, selector: &Selector) -> Vec<u32>;
    /// Identities that have a pod with a port of this name.
    fn with_port(&self, port: &NamedPort) -> Vec<u32>;
    /// The numbers that a port of this name has in pods of an identity.
    fn ports(&self, identity: u32, port: &NamedPort) -> Vec<u16>;
}

/// An identity and the policies that select it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its number.
    pub identity: u32,
    /// The policies that select it, sorted by name.
    pub policies: Vec<SubjectPolicy<'a>>,
}

/// A policy that selects the subject.
#[derive(Clone, Copy, Debug)]
pub struct SubjectPolicy<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its content.
    pub parsed: &'a ParsedPolicy,
}

/// The row of `subject`.
pub fn compile(subject: &Subject<'_>, view: &impl PeerView, mode: PolicyMode) -> Policy {
    let never = mode == PolicyMode::Never;
    let policies: &[SubjectPolicy<'_>] = if never { &[] } else { &subject.policies };
    Policy {
        identity: subject.identity,
        ingress: Some(direction(subject.identity, policies, view, Direction::Ingress, mode)),
        egress: Some(direction(subject.identity, policies, view, Direction::Egress, mode)),
        policies: policies.iter().map(|policy| policy_label(policy.name)).collect(),
    }
}

/// Identities whose addresses a node needs that enforces `policy`; sorted.
#[must_use]
pub fn listed(policy: &Policy) -> Vec<u32> {
    let peers = policy.ingress.iter().chain(&policy.egress).flat_map(|direction| &direction.peers);
    let mut all: Vec<u32> = peers
        .filter_map(|peer| match peer.peer {
            Some(peer_rules::Peer::Identity(identity)) => Some(identity),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn direction(
    subject: u32,
    policies: &[SubjectPolicy<'_>],
    view: &impl PeerView,
    direction: Direction,
    mode: PolicyMode,
) -> PolicyDirection {
    let mut merger = Merger {
        subject,
        view,
        direction,
        opened: Vec::new(),
        any: [const { Vec::new() }; 3],
        listed: BTreeMap::new(),
        blocks: Vec::new(),
    };
    let mut isolated_by = 0;
    for (index, policy) in (0..).zip(policies) {
        let rules = match direction {
            Direction::Ingress => policy.parsed.ingress.as_deref(),
            Direction::Egress => policy.parsed.egress.as_deref(),
        };
        let Some(rules) = rules else { continue };
        if isolated_by == 0 {
            isolated_by = index + 1;
        }
        for rule in rules {
            merger.rule(index, rule);
        }
    }
    let enforced = isolated_by != 0 || mode == PolicyMode::Always;
    PolicyDirection { enforced, isolated_by, peers: merger.peers(), classes: classes(&merger.blocks) }
}

const SCOPES: [AnyPeer; 3] = [AnyPeer::Pod, AnyPeer::Node, AnyPeer::World];
const POD: usize = 0;

/// What the rules of one direction open, by peer. A peer has a list of numbers of openings, because many peers have the same.
struct Merger<'a, V> {
    subject: u32,
    view: &'a V,
    direction: Direction,
    opened: Vec<Vec<(PortKey, TierVerdict)>>,
    any: [Vec<usize>; 3],
    listed: BTreeMap<u32, Vec<usize>>,
    blocks: Vec<Block<'a>>,
}

impl<'a, V: PeerView> Merger<'a, V> {
    fn rule(&mut self, policy: u32, rule: &'a ParsedRule) {
        let verdict = TierVerdict { tier: Tier::Normal.into(), action: Action::Allow.into(), order: 0, policy };
        let mut keys: Vec<PortKey> = rule.ports.keys.clone();
        if self.direction == Direction::Ingress {
            for port in &rule.ports.named {
                let numbers = self.view.ports(self.subject, port);
                keys.extend(numbers.into_iter().map(|number| PortKey::one(port.protocol, number)));
            }
        }
        let rules: Vec<_> = keys.into_iter().map(|key| (key, verdict)).collect();
        let opening = self.open(rules.clone());
        for peer in &rule.peers {
            match peer {
                ParsedPeer::Everything => self.any.iter_mut().for_each(|any| any.extend(opening)),
                ParsedPeer::AnyPod => self.any[POD].extend(opening),
                ParsedPeer::Selected(selector) => {
                    if let Some(opening) = opening {
                        for identity in self.view.selected(selector) {
                            self.listed.entry(identity).or_default().push(opening);
                        }
                    }
                }
                ParsedPeer::Block { cidr, except } => {
                    if !rules.is_empty() {
                        self.blocks.push(Block { cidr: *cidr, except, rules: rules.clone() });
                    }
                }
            }
            if self.direction == Direction::Egress {
                self.named_of_peers(verdict, &rule.ports.named, peer);
            }
        }
    }

    /// Ports by name towards peers: each peer's own numbers.
    fn named_of_peers(&mut self, verdict: TierVerdict, named: &[NamedPort], peer: &ParsedPeer) {
        for port in named {
            let identities = match peer {
                ParsedPeer::Everything | ParsedPeer::AnyPod => self.view.with_port(port),
                ParsedPeer::Selected(selector) => self.view.selected(selector),
                // A block has addresses, and an address no container ports.
                ParsedPeer::Block { .. } => continue,
            };
            let mut openings: HashMap<Vec<u16>, Option<usize>> = HashMap::new();
            for identity in identities {
                let opening = *openings.entry(self.view.ports(identity, port)).or_insert_with_key(|numbers| {
                    let key = |number: &u16| (PortKey::one(port.protocol, *number), verdict);
                    open(&mut self.opened, numbers.iter().map(key).collect())
                });
                if let Some(opening) = opening {
                    self.listed.entry(identity).or_default().push(opening);
                }
            }
        }
    }

    fn open(&mut self, rules: Vec<(PortKey, TierVerdict)>) -> Option<usize> {
        open(&mut self.opened, rules)
    }

    /// All peers, sorted. Listed ones contain what is open to any pod, and are left out where they say no more than that.
    fn peers(&self) -> Vec<PeerRules> {
        let any: Vec<Vec<PortRule>> = self.any.iter().map(|openings| self.flat(openings)).collect();
        let any_pod = any.first().map(Vec::as_slice).unwrap_or_default();
        let mut flat: HashMap<&[usize], Vec<PortRule>> = HashMap::new();
        let mut peers = Vec::new();
        for (identity, openings) in &self.listed {
            let rules = flat.entry(openings).or_insert_with(|| {
                let all: Vec<usize> = self.any[POD].iter().chain(openings).copied().collect();
                self.flat(&all)
            });
            if !same_rules(rules, any_pod) {
                peers.push(PeerRules { peer: Some(peer_rules::Peer::Identity(*identity)), rules: rules.clone() });
            }
        }
        for (scope, rules) in SCOPES.into_iter().zip(any) {
            if !rules.is_empty() {
                peers.push(PeerRules { peer: Some(peer_rules::Peer::Any(scope.into())), rules });
            }
        }
        peers
    }

    fn flat(&self, openings: &[usize]) -> Vec<PortRule> {
        let rules: Vec<_> = openings.iter().filter_map(|i| self.opened.get(*i)).flatten().copied().collect();
        flatten(&rules)
    }
}

fn open(opened: &mut Vec<Vec<(PortKey, TierVerdict)>>, rules: Vec<(PortKey, TierVerdict)>) -> Option<usize> {
    if rules.is_empty() {
        return None;
    }
    opened.push(rules);
    Some(opened.len() - 1)
}
