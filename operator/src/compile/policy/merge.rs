//! All policies of one subject identity, merged into its row.

use std::collections::{BTreeMap, HashMap};

use axoneme_proto::tables::{
    Action, AnyPeer, PeerRules, Policy, PolicyDirection, PolicyLog, PolicyMode, PolicyRule, PortRule, Tier,
    TierVerdict, peer_rules,
};
use ipnet::IpNet;

use super::cidr::{Block, classes};
use super::emergency;
use super::parsed::{CidrGroups, HOST, Owners, ParsedPeer, ParsedPolicy, ParsedRule, REMOTE_NODE, ServiceRef};
use super::policy_label;
use super::ports::{NamedPort, PortKey, flatten, same_rules};
use crate::index::PolicyPart;
use crate::object::{Direction, Selector};

/// Which identities there are: what the compiler needs of the index.
pub trait PeerView {
    /// Identities with these labels.
    fn selected(&self, selector: &Selector) -> Vec<u32>;
    /// Identities that have a pod with a port of this name.
    fn with_port(&self, port: &NamedPort) -> Vec<u32>;
    /// The numbers that a port of this name has in pods of an identity.
    fn ports(&self, identity: u32, port: &NamedPort) -> Vec<u16>;
    /// The addresses at which the API server answers, as prefixes.
    fn api_server(&self) -> Vec<IpNet>;
    /// The addresses of nodes with these labels, as prefixes.
    fn nodes(&self, selector: &Selector) -> Vec<IpNet>;
    /// The prefixes of some CiliumCIDRGroups.
    fn cidrs(&self, groups: &CidrGroups) -> Vec<IpNet>;
    /// Identities of the pods that some Services select.
    fn behind(&self, services: &ServiceRef) -> Vec<u32>;
    /// Addresses of the endpoints of those that select none, as prefixes.
    fn endpoints(&self, services: &ServiceRef) -> Vec<IpNet>;
}

/// An identity of pods, or a node, and the policies that select it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its number; of a node [`HOST`].
    pub identity: u32,
    /// The policies that select it, sorted.
    pub policies: Vec<SubjectPolicy<'a>>,
}

/// A policy that selects the subject.
#[derive(Clone, Copy, Debug)]
pub struct SubjectPolicy<'a> {
    /// Whose it is.
    pub source: Source<'a>,
    /// Its content.
    pub parsed: &'a ParsedPolicy,
}

/// Whose rules are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source<'a> {
    /// Nobody's: the ways to and from nodes that stay open whatever policies say.
    Emergency,
    /// Those of a part of a policy object.
    Part(&'a PolicyPart),
}

impl<'a> Source<'a> {
    /// How rows name it.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Emergency => emergency::LABEL.to_owned(),
            Self::Part(part) => policy_label(&part.policy),
        }
    }

    /// The part of a policy object that it is, if it is one.
    #[must_use]
    pub const fn part(self) -> Option<&'a PolicyPart> {
        match self {
            Self::Emergency => None,
            Self::Part(part) => Some(part),
        }
    }
}

/// The row of `subject`.
pub fn compile(subject: &Subject<'_>, view: &impl PeerView, mode: PolicyMode) -> Policy {
    let never = mode == PolicyMode::Never;
    let policies: &[SubjectPolicy<'_>] = if never { &[] } else { &subject.policies };
    let audits = policies.iter().any(|policy| policy.parsed.audits);
    let [ingress, egress] = [Direction::Ingress, Direction::Egress].map(|direction| {
        let enforced = self::direction(subject.identity, policies, view, direction, mode, Reading::Enforced);
        let audited = || self::direction(subject.identity, policies, view, direction, mode, Reading::Audited);
        (Some(enforced), audits.then(audited))
    });
    let rules = rules(policies, Direction::Ingress).chain(rules(policies, Direction::Egress));
    let log = |(policy, said): (u32, &SubjectPolicy<'_>)| {
        said.parsed.log.as_deref().map(|text| PolicyLog { policy, text: text.to_owned() })
    };
    Policy {
        identity: subject.identity,
        ingress: ingress.0,
        egress: egress.0,
        policies: policies.iter().map(|policy| policy.source.label()).collect(),
        rules: rules.map(|(policy, rule)| PolicyRule { policy, field: rule.field.to_string() }).collect(),
        logs: (0..).zip(policies).filter_map(log).collect(),
        audited_ingress: ingress.1,
        audited_egress: egress.1,
    }
}

/// The rules of one direction, each with the index of its policy.
fn rules<'a>(policies: &[SubjectPolicy<'a>], direction: Direction) -> impl Iterator<Item = (u32, &'a ParsedRule)> {
    let of = move |(index, policy): (u32, &SubjectPolicy<'a>)| {
        policy.parsed.direction(direction).rules.iter().map(move |rule| (index, rule))
    };
    (0..).zip(policies).flat_map(of)
}

/// How policies that only audit are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// They isolate nobody and deny nothing. What they allow is allowed.
    Enforced,
    /// As others.
    Audited,
}

/// Identities whose addresses a node needs that enforces `policy`; sorted.
#[must_use]
pub fn listed(policy: &Policy) -> Vec<u32> {
    let audited = policy.audited_ingress.iter().chain(&policy.audited_egress);
    let directions = policy.ingress.iter().chain(&policy.egress).chain(audited);
    let peers = directions.flat_map(|direction| &direction.peers);
    let mut all: Vec<u32> = peers
        .filter_map(|peer| match peer.peer {
            Some(peer_rules::Peer::Identity(identity)) if !is_node(identity) => Some(identity),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn direction<'a>(
    subject: u32,
    policies: &[SubjectPolicy<'a>],
    view: &impl PeerView,
    direction: Direction,
    mode: PolicyMode,
    reading: Reading,
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
    let lenient = |policy: &SubjectPolicy<'a>| policy.parsed.audits && reading == Reading::Enforced;
    let isolates = |policy: &SubjectPolicy<'a>| policy.parsed.direction(direction).isolates && !lenient(policy);
    let isolated_by = (1..).zip(policies).find(|(_, policy)| isolates(policy)).map_or(0, |(number, _)| number);
    let first = match direction {
        Direction::Ingress => 1,
        Direction::Egress => 1 + rules(policies, Direction::Ingress).count(),
    };
    for (number, (policy, rule)) in (first..).zip(rules(policies, direction)) {
        // Where a policy before isolates, nothing comes to the last tier.
        let comes = rule.verdict.tier != Tier::Baseline || isolated_by == 0;
        let lenient = policies.get(policy as usize).is_some_and(lenient);
        if comes && !(lenient && rule.verdict.action == Action::Deny) {
            merger.rule(policy, number as u32, rule);
        }
    }
    let enforced = isolated_by != 0 || mode == PolicyMode::Always;
    PolicyDirection { enforced, isolated_by, peers: merger.peers(), classes: classes(&merger.blocks) }
}

const SCOPES: [AnyPeer; 3] = [AnyPeer::Pod, AnyPeer::Node, AnyPeer::World];

/// Where a scope stands in [`SCOPES`].
fn place(scope: AnyPeer) -> usize {
    SCOPES.iter().position(|other| *other == scope).unwrap_or_default()
}

/// Whether a number means nodes: their addresses are known everywhere.
const fn is_node(identity: u32) -> bool {
    matches!(identity, HOST | REMOTE_NODE)
}

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
    fn rule(&mut self, policy: u32, number: u32, rule: &'a ParsedRule) {
        let said = rule.verdict;
        let verdict =
            TierVerdict { tier: said.tier.into(), action: said.action.into(), order: said.order, policy, rule: number };
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
            if let Some(opening) = opening {
                self.peer(peer, opening, &rules);
            }
            if self.direction == Direction::Egress {
                self.named_of_peers(verdict, &rule.ports.named, peer);
            }
        }
    }

    /// Ports by number: the same for all peers.
    fn peer(&mut self, peer: &'a ParsedPeer, opening: usize, rules: &[(PortKey, TierVerdict)]) {
        match peer {
            ParsedPeer::Everything => self.any.iter_mut().for_each(|any| any.push(opening)),
            ParsedPeer::Scope(scope) => self.any[place(*scope)].push(opening),
            ParsedPeer::Selected(selector) => {
                for identity in self.view.selected(selector) {
                    self.listed.entry(identity).or_default().push(opening);
                }
            }
            ParsedPeer::Node(identity) => self.listed.entry(*identity).or_default().push(opening),
            ParsedPeer::Nodes(selector) => {
                let block = |cidr| Block { cidr, except: &[], of: Owners::Nodes, rules: rules.to_vec() };
                self.blocks.extend(self.view.nodes(selector).into_iter().map(block));
            }
            ParsedPeer::ApiServer => {
                let block = |cidr| Block { cidr, except: &[], of: Owners::All, rules: rules.to_vec() };
                self.blocks.extend(self.view.api_server().into_iter().map(block));
            }
            ParsedPeer::Services(services) => {
                for identity in self.view.behind(services) {
                    self.listed.entry(identity).or_default().push(opening);
                }
                let block = |cidr| Block { cidr, except: &[], of: Owners::All, rules: rules.to_vec() };
                self.blocks.extend(self.view.endpoints(services).into_iter().map(block));
            }
            ParsedPeer::Groups { groups, except, of } => {
                let block = |cidr| Block { cidr, except, of: *of, rules: rules.to_vec() };
                self.blocks.extend(self.view.cidrs(groups).into_iter().map(block));
            }
            ParsedPeer::Block { cidr, except, of } => {
                self.blocks.push(Block { cidr: *cidr, except, of: *of, rules: rules.to_vec() });
            }
        }
    }

    /// Ports by name towards peers: each peer's own numbers.
    fn named_of_peers(&mut self, verdict: TierVerdict, named: &[NamedPort], peer: &ParsedPeer) {
        for port in named {
            let identities = match peer {
                ParsedPeer::Everything | ParsedPeer::Scope(AnyPeer::Pod) => self.view.with_port(port),
                ParsedPeer::Selected(selector) => self.view.selected(selector),
                ParsedPeer::Services(services) => self.view.behind(services),
                // A node has no container ports, nor has an address.
                ParsedPeer::Scope(_)
                | ParsedPeer::Node(_)
                | ParsedPeer::Nodes(_)
                | ParsedPeer::ApiServer
                | ParsedPeer::Groups { .. }
                | ParsedPeer::Block { .. } => continue,
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

    /// All peers, sorted. Listed ones contain what is open to anyone in their scope, and are left out where they say no more.
    fn peers(&self) -> Vec<PeerRules> {
        let any: [Vec<PortRule>; 3] = std::array::from_fn(|scope| self.flat(&self.any[scope]));
        let mut flat: HashMap<(usize, &[usize]), Vec<PortRule>> = HashMap::new();
        let mut peers = Vec::new();
        for (identity, openings) in &self.listed {
            let scope = place(if is_node(*identity) { AnyPeer::Node } else { AnyPeer::Pod });
            let rules = flat.entry((scope, openings)).or_insert_with(|| {
                let all: Vec<usize> = self.any[scope].iter().chain(openings).copied().collect();
                self.flat(&all)
            });
            if !same_rules(rules, &any[scope]) {
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
