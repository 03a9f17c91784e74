//! Who judges a packet, and that they all say the same: the reference evaluator, the compiled row under the kernel's lookup, and the
//! explanation.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{Policy, PolicyMode};
use proptest::prelude::*;
use prost::Message;

use super::explain::{Because, Dealings, PacketPeer};
use super::judge::Said;
use super::merge::{self, Reading};
use super::oracle::{Packet, Peer, Subject, World};
use super::parsed::HOST;
use super::worlds::{self, HERE, config, objects, packets};
use crate::diff::{Flip, Party, Settings, State, diff};
use crate::index::Index;
use crate::object::{Direction, Pod};
use crate::table::EncodedRow;

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// A world, and what is compiled of it.
#[derive(Debug)]
pub struct Compiled<'w> {
    world: &'w World,
    /// The same with policies that only audit enforced as others.
    enforcing_all: World,
    index: Index,
    identities: Vec<u32>,
    rows: BTreeMap<u32, Policy>,
    /// Those of nodes that policies select.
    rows_of_nodes: BTreeMap<Arc<str>, Policy>,
    /// That of others, which says nothing.
    open: Policy,
    /// Whom pods and nodes have to do with, as each node knows them.
    peers: BTreeMap<Arc<str>, Vec<(Peer<'w>, PacketPeer)>>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It passes.
    pub allowed: bool,
    /// Why.
    pub because: Because,
    /// It passes, and why it would not if policies that only audit were enforced.
    pub audited: Option<Because>,
}

impl<'w> Compiled<'w> {
    /// Compiles a world.
    ///
    /// # Errors
    /// When a row is not what it should be.
    pub fn of(world: &'w World) -> Result<Self, TestCaseError> {
        let index = worlds::index(world);
        let mut compiler = super::Rows::default();
        let mut rows = BTreeMap::new();
        for object in index.identities() {
            let row = compiler.row(&index, object.id, PolicyMode::Default).unwrap();
            rows.insert(object.id, decoded(object.id, &row.output.1)?);
        }
        let mut rows_of_nodes = BTreeMap::new();
        for node in &world.nodes {
            if let Some(row) = compiler.host_row(&index, &node.name, PolicyMode::Default) {
                rows_of_nodes.insert(Arc::clone(&node.name), decoded(HOST, &row.output.1)?);
            }
        }
        let identities: Vec<u32> = world.pods.iter().map(|pod| worlds::identity(world, &index, pod)).collect();
        let peers = |name: &Arc<str>| (Arc::clone(name), worlds::peers(world, &identities, name));
        let peers = world.nodes.iter().map(|node| peers(&node.name)).collect();
        let (enforcing_all, open) = (world.enforcing_all(), Policy::default());
        Ok(Self { world, enforcing_all, index, identities, rows, rows_of_nodes, open, peers })
    }

    /// All pods with their identities.
    pub fn pods(&self) -> impl Iterator<Item = (&'w Pod, u32)> {
        self.world.pods.iter().zip(self.identities.iter().copied())
    }

    /// The rows, by identity.
    #[must_use]
    pub fn rows(&self) -> &BTreeMap<u32, Policy> {
        &self.rows
    }

    /// A node of the world.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Subject<'w> {
        Subject::Node(self.world.nodes.iter().find(|node| *node.name == *name).unwrap())
    }

    /// The row of a node; none: no policy selects it.
    #[must_use]
    pub fn row_of_node(&self, name: &str) -> Option<&Policy> {
        self.rows_of_nodes.get(name)
    }

    /// Holds all verdicts to that of the reference evaluator.
    ///
    /// # Errors
    /// When somebody says something else.
    pub fn agrees(&self) -> Result<(), TestCaseError> {
        self.pairs()
            .try_for_each(|pair| packets().try_for_each(|(protocol, port)| pair.verdict(protocol, port).map(drop)))
    }

    /// Every pod and every node with everybody else, both ways.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let pods = self.world.pods.iter().map(Subject::Pod);
        pods.chain(self.world.nodes.iter().map(Subject::Node)).flat_map(move |subject| {
            let another = move |(_, peer): &&(Peer<'_>, PacketPeer)| {
                !subject.addresses().iter().any(|ip| peer.address == Some(*ip))
            };
            let others = self.peers(subject).iter().filter(another);
            let both = others.flat_map(|(_, peer)| DIRECTIONS.map(|way| (way, peer.address)));
            both.map(move |(direction, address)| self.pair(subject, direction, address.unwrap()))
        })
    }

    /// Whom a subject has to do with.
    fn peers(&self, subject: Subject<'_>) -> &[(Peer<'w>, PacketPeer)] {
        match subject {
            Subject::Pod(_) => &self.peers[HERE],
            Subject::Node(node) => &self.peers[&node.name],
        }
    }

    /// What is compiled for a subject: its row, and its policies.
    fn compiled(&self, subject: Subject<'_>) -> (&Policy, merge::Subject<'_>) {
        match subject {
            Subject::Pod(pod) => {
                let (_, identity) = self.pods().find(|(other, _)| other.name == pod.name).unwrap();
                (&self.rows[&identity], self.index.subject(identity).unwrap())
            }
            Subject::Node(node) => {
                let nobodys = merge::Subject { identity: HOST, policies: Vec::new() };
                let policies = self.index.host_subject(&node.name).unwrap_or(nobodys);
                (self.rows_of_nodes.get(&node.name).unwrap_or(&self.open), policies)
            }
        }
    }

    /// A pod or node with whoever has an address.
    #[must_use]
    pub fn pair(&self, subject: Subject<'w>, direction: Direction, address: IpAddr) -> Pair<'_> {
        let &(who, peer) = self.peers(subject).iter().find(|(_, peer)| peer.address == Some(address)).unwrap();
        let (row, policies) = self.compiled(subject);
        let dealings = |reading| Dealings::of(&policies, &self.index, PolicyMode::Default, direction, peer, reading);
        let enforced = (self.world, Said::of(row, direction, peer), dealings(Reading::Enforced));
        let audited =
            Said::audited(row, direction, peer).map(|said| (&self.enforcing_all, said, dealings(Reading::Audited)));
        Pair { row, enforced, audited, subject, direction, who, peer }
    }
}

/// A row, which is encoded as it should be.
fn decoded(identity: u32, row: &EncodedRow) -> Result<Policy, TestCaseError> {
    let policy = Policy::decode(row.payload()).unwrap();
    prop_assert_eq!(policy.identity, identity);
    prop_assert_eq!(policy.encode_to_vec(), row.payload(), "spliced bytes are canonical");
    Ok(policy)
}

/// Those who judge: the reference evaluator, a row, and the explanation.
type Judges<'a> = (&'a World, Said<'a>, Dealings<'a>);

/// A pod or node and whom it has to do with, in one direction.
#[derive(Debug)]
pub struct Pair<'a> {
    row: &'a Policy,
    enforced: Judges<'a>,
    /// As if policies that only audit were enforced; none: there are none.
    audited: Option<Judges<'a>>,
    /// Whose policies are asked.
    pub subject: Subject<'a>,
    /// Whether packets come to the subject or leave it.
    pub direction: Direction,
    /// Who is at the other end.
    pub who: Peer<'a>,
    /// The same, as the kernel knows it.
    pub peer: PacketPeer,
}

impl Pair<'_> {
    /// What becomes of a packet that opens a flow.
    ///
    /// # Errors
    /// When somebody says something else than the reference evaluator.
    pub fn verdict(&self, protocol: u8, port: u16) -> Result<Verdict, TestCaseError> {
        let (allowed, because) = self.agreed(&self.enforced, protocol, port)?;
        let would = match &self.audited {
            Some(judges) => self.agreed(judges, protocol, port)?,
            None => (allowed, because),
        };
        Ok(Verdict { allowed, because, audited: (allowed && !would.0).then_some(would.1) })
    }

    fn agreed(&self, judges: &Judges<'_>, protocol: u8, port: u16) -> Result<(bool, Because), TestCaseError> {
        let &Self { subject, direction, who, peer, row, .. } = self;
        let (world, said, dealings) = judges;
        let packet = Packet { direction, peer: who, address: peer.address.unwrap(), protocol, port };
        let expected = world.allows(subject, &packet);
        let got = said.passes(protocol, port);
        prop_assert_eq!(got, expected, "{} {:?} row {:#?}", subject.name(), packet, row);
        let why = dealings.decide(protocol, port);
        // Which nodes run which pods is no matter of policies.
        let allowed = expected || matches!((who, direction), (Peer::Host, Direction::Ingress));
        prop_assert_eq!(why.allowed, allowed, "{} {:?} {:#?}", subject.name(), packet, why);
        Ok((allowed, why.because))
    }
}

/// Two worlds with the same pods, of one address each, and the same nodes with labels of each world: what is different between them
/// is told for each pair of pods and nodes.
///
/// # Errors
/// When what is told is not what the reference evaluator finds.
pub fn difference(mut before: World, mut after: World) -> Result<(), TestCaseError> {
    after.namespaces.clone_from(&before.namespaces);
    after.cidrs_mean_nodes = before.cidrs_mean_nodes;
    after.host_firewall.clone_from(&before.host_firewall);
    for pod in &mut before.pods {
        pod.ips = [pod.ips[0]].into();
        pod.node = Some(HERE.into());
    }
    after.pods.clone_from(&before.pods);
    let state = |world: &World| {
        let mut state = State::default();
        objects(world).into_iter().for_each(|object| state.insert(object));
        state
    };
    let settings = Settings {
        cluster: "default".into(),
        mode: PolicyMode::Default,
        cidrs_of: config(&before).cidrs_of,
        host_firewall: before.host_firewall.clone(),
    };
    let difference = diff(&state(&before), &state(&after), &settings);
    let ends: Vec<Subject<'_>> =
        before.pods.iter().map(Subject::Pod).chain(before.nodes.iter().map(Subject::Node)).collect();
    let pairs = ends.iter().flat_map(|from| ends.iter().map(move |to| (*from, *to)));
    for (from, to) in pairs.filter(|(from, to)| from.name() != to.name()) {
        for (protocol, port) in packets() {
            let expected = (passes(&before, from, to, (protocol, port)), passes(&after, from, to, (protocol, port)));
            let about = |flip: &&Flip| {
                is(&flip.from, from, to) && is(&flip.to, to, from) && flip.ports.contains(protocol, port)
            };
            let told: Vec<bool> = difference.flips.iter().filter(about).map(|flip| flip.allowed).collect();
            let wanted: &[bool] = if expected.0 == expected.1 { &[] } else { &[expected.1] };
            prop_assert_eq!(&*told, wanted, "{} to {}, {}/{}", from.name(), to.name(), port, protocol);
        }
    }
    Ok(())
}

/// Whether one is a node and the other a pod that it runs, where [`HERE`] runs all.
fn runs(one: Subject<'_>, other: Subject<'_>) -> bool {
    matches!((one, other), (Subject::Node(node), Subject::Pod(_)) if *node.name == *HERE)
}

/// Whether packets pass from one end to the other in a world, where nodes have labels of their own.
fn passes(world: &World, from: Subject<'_>, to: Subject<'_>, (protocol, port): (u8, u16)) -> bool {
    let here = |subject| match subject {
        Subject::Node(node) => Subject::Node(world.nodes.iter().find(|other| other.name == node.name).unwrap()),
        pod @ Subject::Pod(_) => pod,
    };
    let allows = |subject, other, direction| {
        let peer = match other {
            Subject::Pod(pod) => Peer::Pod(pod),
            Subject::Node(_) if runs(other, subject) => Peer::Host,
            Subject::Node(_) => Peer::RemoteNode,
        };
        world.allows(here(subject), &Packet { direction, peer, address: other.addresses()[0], protocol, port })
    };
    // A node always reaches the pods that it runs.
    runs(from, to) || (allows(from, to, Direction::Egress) && allows(to, from, Direction::Ingress))
}

/// Whether what is told of a party is told of a pod or node, as the other end knows it.
fn is(party: &Party, subject: Subject<'_>, other: Subject<'_>) -> bool {
    match (party, subject) {
        (Party::Pods { pods, .. }, Subject::Pod(pod)) => pods.contains(&pod.name),
        (Party::OwnNode, _) => runs(subject, other),
        (Party::Nodes(names), Subject::Node(node)) => !runs(subject, other) && names.contains(&node.name),
        _ => false,
    }
}
