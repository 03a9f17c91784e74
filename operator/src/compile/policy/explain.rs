//! Why a packet passes or not: the policies of its subject, asked one after the other.
//!
//! This reads parsed policies where [`compile`](super::compile) merges them into a row; property tests hold both to the same answers.

use std::net::IpAddr;

use axoneme_proto::tables::{Action, AnyPeer, PolicyMode, Tier};

use super::merge::{PeerView, Reading, Source, Subject, SubjectPolicy};
use super::parsed::{HOST, Owners, ParsedPeer, ParsedRule};
use super::ports::{NamedPort, PortKey};
use crate::index::PolicyPart;
use crate::object::Direction;

/// The other end of a packet, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct PacketPeer {
    /// What it is.
    pub scope: AnyPeer,
    /// Its number, where it has one.
    pub identity: Option<u32>,
    /// Its address; none: no address in particular, which no rule about addresses means.
    pub address: Option<IpAddr>,
}

/// A rule that is about a packet.
#[derive(Clone, Copy, Debug)]
pub struct RuleAsked<'a> {
    /// Whose rule it is.
    pub source: Source<'a>,
    /// What it says.
    pub rule: &'a ParsedRule,
    /// What it says counts.
    pub decides: bool,
}

/// Why something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The last rule that was asked says so.
    Rule,
    /// No rule says anything, and some policy isolates the subject.
    Isolated,
    /// No rule says anything, and enforcement mode `always` isolates every pod.
    Always,
    /// No rule says anything, and nothing isolates the subject.
    NotIsolated,
    /// Enforcement mode `never`.
    Never,
    /// A node reaches the pods that it runs, whatever policies say.
    OwnNode,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// It passes.
    pub allowed: bool,
    /// Why.
    pub because: Because,
    /// The policies that isolate the subject in this direction, whatever decides.
    pub isolating: Vec<&'a PolicyPart>,
    /// The rules that are about it, in the order in which they count.
    pub rules: Vec<RuleAsked<'a>>,
}

/// The policies of a subject in one direction, as far as they are about one peer.
#[derive(Debug)]
pub struct Dealings<'a> {
    rules: Vec<(Source<'a>, &'a ParsedRule, Vec<PortKey>)>,
    isolating: Vec<&'a PolicyPart>,
    otherwise: Because,
}

impl<'a> Dealings<'a> {
    /// Of a node with a pod that it runs, as far as the node opens the flow.
    #[must_use]
    pub const fn of_own_node() -> Self {
        Self { rules: Vec::new(), isolating: Vec::new(), otherwise: Because::OwnNode }
    }

    /// Between `subject` and `peer`.
    #[must_use]
    pub fn of(
        subject: &Subject<'a>,
        view: &impl PeerView,
        mode: PolicyMode,
        direction: Direction,
        peer: PacketPeer,
        reading: Reading,
    ) -> Self {
        if direction == Direction::Ingress && peer.identity == Some(HOST) {
            return Self::of_own_node();
        }
        if mode == PolicyMode::Never {
            return Self { rules: Vec::new(), isolating: Vec::new(), otherwise: Because::Never };
        }
        let lenient = |policy: &SubjectPolicy<'a>| policy.parsed.audits && reading == Reading::Enforced;
        let isolates = |policy: &&SubjectPolicy<'a>| policy.parsed.direction(direction).isolates && !lenient(policy);
        let isolating: Vec<_> =
            subject.policies.iter().filter(isolates).filter_map(|policy| policy.source.part()).collect();
        let otherwise = match mode {
            _ if !isolating.is_empty() => Because::Isolated,
            // This mode is about pods.
            PolicyMode::Always if subject.identity != HOST => Because::Always,
            _ => Because::NotIsolated,
        };
        let asking = Asking { subject: subject.identity, view, direction, peer };
        let mut rules = Vec::new();
        for policy in &subject.policies {
            let counts = |rule: &&ParsedRule| {
                let comes = rule.verdict.tier != Tier::Baseline || isolating.is_empty();
                comes && !(rule.verdict.action == Action::Deny && lenient(policy))
            };
            let said = policy.parsed.direction(direction).rules.iter().filter(counts);
            rules.extend(
                said.map(|rule| (policy.source, rule, asking.ports(rule))).filter(|(_, _, ports)| !ports.is_empty()),
            );
        }
        // Stable: policies of the same weight stay in the order of their names.
        rules.sort_by_key(|(_, rule, _)| rule.verdict.weight());
        Self { rules, isolating, otherwise }
    }

    /// The ports that its rules distinguish.
    pub fn keys(&self) -> impl Iterator<Item = PortKey> {
        self.rules.iter().flat_map(|(_, _, ports)| ports).copied()
    }

    /// What becomes of a packet of this protocol (IANA number) and port (or ICMP type).
    #[must_use]
    pub fn decide(&self, protocol: u8, port: u16) -> Decision<'a> {
        let packet = PortKey { protocol, port, bits: 16 };
        let about = self.rules.iter().filter(|(_, _, ports)| ports.iter().any(|key| key.contains(&packet)));
        let mut rules: Vec<_> =
            about.map(|(source, rule, _)| RuleAsked { source: *source, rule, decides: false }).collect();
        // In each tier the first counts. One that passes leaves it to the next tier.
        let mut tier = None;
        let decisive = rules.iter().position(|asked| {
            let first = tier.replace(asked.rule.verdict.tier) != Some(asked.rule.verdict.tier);
            first && matches!(asked.rule.verdict.action, Action::Allow | Action::Deny)
        });
        let (allowed, because) = match decisive.and_then(|i| rules.get_mut(i)) {
            Some(decisive) => {
                decisive.decides = true;
                (decisive.rule.verdict.action == Action::Allow, Because::Rule)
            }
            None => (!matches!(self.otherwise, Because::Isolated | Because::Always), self.otherwise),
        };
        Decision { allowed, because, isolating: self.isolating.clone(), rules }
    }
}

struct Asking<'v, V> {
    subject: u32,
    view: &'v V,
    direction: Direction,
    peer: PacketPeer,
}

impl<V: PeerView> Asking<'_, V> {
    /// The ports on which a rule is about the peer.
    fn ports(&self, rule: &ParsedRule) -> Vec<PortKey> {
        let mut ports = Vec::new();
        let (mut by_number, mut by_name) = (false, false);
        for peer in &rule.peers {
            by_number |= self.means(peer);
            by_name |= match self.direction {
                Direction::Ingress => self.means(peer),
                Direction::Egress => self.means_container(peer),
            };
        }
        if by_number {
            ports.extend_from_slice(&rule.ports.keys);
        }
        let owner = match self.direction {
            Direction::Ingress => Some(self.subject),
            Direction::Egress => self.peer.identity,
        };
        if let Some(owner) = owner.filter(|_| by_name) {
            let numbers = |port: &NamedPort| self.view.ports(owner, port);
            let keys = |port: &NamedPort| {
                numbers(port).into_iter().map(|n| PortKey::one(port.protocol, n)).collect::<Vec<_>>()
            };
            ports.extend(rule.ports.named.iter().flat_map(keys));
        }
        ports
    }

    fn means(&self, peer: &ParsedPeer) -> bool {
        let Self { view, peer: PacketPeer { scope, identity, address }, .. } = self;
        let is = |identities: &[u32]| identity.is_some_and(|identity| identities.contains(&identity));
        let within =
            |blocks: &[ipnet::IpNet]| address.is_some_and(|address| blocks.iter().any(|net| net.contains(&address)));
        match peer {
            ParsedPeer::Everything => true,
            ParsedPeer::Scope(any) => any == scope,
            ParsedPeer::Selected(selector) => is(&view.selected(selector)),
            ParsedPeer::Node(number) => is(&[*number]),
            ParsedPeer::Nodes(selector) => *scope == AnyPeer::Node && within(&view.nodes(selector)),
            ParsedPeer::ApiServer => within(&view.api_server()),
            ParsedPeer::Services(services) => is(&view.behind(services)) || within(&view.endpoints(services)),
            ParsedPeer::Groups { groups, except, of } => {
                self.has(*of) && within(&view.cidrs(groups)) && !within(except)
            }
            ParsedPeer::Block { cidr, except, of } => self.has(*of) && within(&[*cidr]) && !within(except),
        }
    }

    /// Whether it means the peer as a pod, whose containers have ports with names.
    fn means_container(&self, peer: &ParsedPeer) -> bool {
        let pod = self.peer.scope == AnyPeer::Pod;
        let behind = |identities: &[u32]| self.peer.identity.is_some_and(|identity| identities.contains(&identity));
        pod && match peer {
            ParsedPeer::Services(services) => behind(&self.view.behind(services)),
            ParsedPeer::Everything | ParsedPeer::Scope(_) | ParsedPeer::Selected(_) => self.means(peer),
            _ => false,
        }
    }

    /// Whether the peer's address belongs to those whose addresses are meant.
    fn has(&self, owners: Owners) -> bool {
        match owners {
            Owners::All => true,
            Owners::Nodes => self.peer.scope == AnyPeer::Node,
            Owners::World => self.peer.scope == AnyPeer::World,
            Owners::WorldAndNodes => self.peer.scope != AnyPeer::Pod,
        }
    }
}
