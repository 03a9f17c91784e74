//! Who judges a packet, and that they all say the same: the reference evaluator, the compiled row under the kernel's lookup, and the
//! explanation.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::tables::{Policy, PolicyMode};
use proptest::prelude::*;
use prost::Message;

use super::explain::{Because, Dealings, PacketPeer};
use super::judge::Said;
use super::merge::Reading;
use super::oracle::{Packet, Peer, World};
use super::worlds::{self, config, objects, packets};
use crate::diff::{Flip, Party, Settings, State, diff};
use crate::index::Index;
use crate::object::{Direction, Pod};

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
    peers: Vec<(Peer<'w>, PacketPeer)>,
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
            let (_, encoded) = row.output;
            let policy = Policy::decode(encoded.payload()).unwrap();
            prop_assert_eq!(policy.identity, object.id);
            prop_assert_eq!(policy.encode_to_vec(), encoded.payload(), "spliced bytes are canonical");
            rows.insert(object.id, policy);
        }
        let identities: Vec<u32> = world.pods.iter().map(|pod| worlds::identity(world, &index, pod)).collect();
        let peers = worlds::peers(world, &identities);
        Ok(Self { world, enforcing_all: world.enforcing_all(), index, identities, rows, peers })
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

    /// Holds all verdicts to that of the reference evaluator.
    ///
    /// # Errors
    /// When somebody says something else.
    pub fn agrees(&self) -> Result<(), TestCaseError> {
        self.pairs()
            .try_for_each(|pair| packets().try_for_each(|(protocol, port)| pair.verdict(protocol, port).map(drop)))
    }

    /// Every pod with everybody else, both ways.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.pods().flat_map(move |(subject, _)| {
            let another = |(_, peer): &&(Peer<'_>, PacketPeer)| !subject.ips.iter().any(|ip| peer.address == Some(*ip));
            let both =
                self.peers.iter().filter(another).flat_map(|(_, peer)| DIRECTIONS.map(|way| (way, peer.address)));
            both.map(move |(direction, address)| self.pair(subject, direction, address.unwrap()))
        })
    }

    /// A pod with whoever has an address.
    #[must_use]
    pub fn pair(&self, subject: &'w Pod, direction: Direction, address: IpAddr) -> Pair<'_> {
        let (_, identity) = self.pods().find(|(pod, _)| pod.name == subject.name).unwrap();
        let &(who, peer) = self.peers.iter().find(|(_, peer)| peer.address == Some(address)).unwrap();
        let row = &self.rows[&identity];
        let policies = self.index.subject(identity).unwrap();
        let dealings = |reading| Dealings::of(&policies, &self.index, PolicyMode::Default, direction, peer, reading);
        let enforced = (self.world, Said::of(row, direction, peer), dealings(Reading::Enforced));
        let audited =
            Said::audited(row, direction, peer).map(|said| (&self.enforcing_all, said, dealings(Reading::Audited)));
        Pair { row, enforced, audited, subject, direction, who, peer }
    }
}

/// Those who judge: the reference evaluator, a row, and the explanation.
type Judges<'a> = (&'a World, Said<'a>, Dealings<'a>);

/// A pod and whom it has to do with, in one direction.
#[derive(Debug)]
pub struct Pair<'a> {
    row: &'a Policy,
    enforced: Judges<'a>,
    /// As if policies that only audit were enforced; none: there are none.
    audited: Option<Judges<'a>>,
    /// Whose policies are asked.
    pub subject: &'a Pod,
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
        prop_assert_eq!(got, expected, "{} {:?} row {:#?}", subject.name, packet, row);
        let why = dealings.decide(protocol, port);
        // Which nodes run which pods is no matter of policies.
        let allowed = expected || matches!((who, direction), (Peer::Host, Direction::Ingress));
        prop_assert_eq!(why.allowed, allowed, "{} {:?} {:#?}", subject.name, packet, why);
        Ok((allowed, why.because))
    }
}

/// Two worlds with the same pods, of one address each: what is different between them is told for each pair of pods.
///
/// # Errors
/// When what is told is not what the reference evaluator finds.
pub fn difference(mut before: World, mut after: World) -> Result<(), TestCaseError> {
    after.namespaces.clone_from(&before.namespaces);
    after.cidrs_mean_nodes = before.cidrs_mean_nodes;
    for pod in &mut before.pods {
        pod.ips = [pod.ips[0]].into();
        pod.node = Some("node-1".into());
    }
    after.pods.clone_from(&before.pods);
    let state = |world: &World| {
        let mut state = State::default();
        objects(world).into_iter().for_each(|object| state.insert(object));
        state
    };
    let (cidrs_of, host_firewall) = (config(&before).cidrs_of, None);
    let settings = Settings { cluster: "default".into(), mode: PolicyMode::Default, cidrs_of, host_firewall };
    let difference = diff(&state(&before), &state(&after), &settings);
    let is = |party: &Party, pod: &Pod| matches!(party, Party::Pods { pods, .. } if pods.contains(&pod.name));
    let pairs = before.pods.iter().flat_map(|from| before.pods.iter().map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from.name != to.name) {
        for (protocol, port) in packets() {
            let passes = |world: &World| {
                let packet = |direction, peer, address| Packet { direction, peer, address, protocol, port };
                world.allows(from, &packet(Direction::Egress, Peer::Pod(to), to.ips[0]))
                    && world.allows(to, &packet(Direction::Ingress, Peer::Pod(from), from.ips[0]))
            };
            let expected = (passes(&before), passes(&after));
            let about = |flip: &&Flip| is(&flip.from, from) && is(&flip.to, to) && flip.ports.contains(protocol, port);
            let told: Vec<bool> = difference.flips.iter().filter(about).map(|flip| flip.allowed).collect();
            let wanted: &[bool] = if expected.0 == expected.1 { &[] } else { &[expected.1] };
            prop_assert_eq!(&*told, wanted, "{} to {}, {}/{}", from.name, to.name, port, protocol);
        }
    }
    Ok(())
}
