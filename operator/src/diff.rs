//! What a change would do to who reaches whom, before it is made: the rows of the cluster as it is and as it would be, judged as
//! nodes judge them.

mod ports;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{AnyPeer, CidrClass, Policy, PolicyMode};
use ipnet::IpNet;
use prost::Message;

use crate::compile::policy::{Emergency, HOST, Owners, PacketPeer, REMOTE_NODE, Rows, Said, WORLD};
use crate::engine::Diagnostic;
use crate::index::Index;
use crate::object::{CiliumIdentity, Direction, Labels, Name, Object, ObjectKey};

pub use ports::Ports;
pub(crate) use ports::{packets, protocol_name};
pub use state::{NotApplied, State};

/// How policies are read, and what becomes of pods that none isolates.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// When policy is enforced.
    pub mode: PolicyMode,
    /// Whose addresses CIDRs in Cilium's policies mean.
    pub cidrs_of: Owners,
    /// What stays open where policies of nodes hold; none: they do not.
    pub host_firewall: Option<Emergency>,
}

/// Pods that are alike before and after, or somebody who is no pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Pods with the same labels, in one namespace.
    Pods {
        /// Their namespace.
        namespace: Arc<str>,
        /// What tells them from others there: their own labels that are part of identities, as they will be.
        labels: String,
        /// Their names, sorted.
        pods: Vec<Name>,
    },
    /// Nodes of which the same is said: names, sorted.
    Nodes(Vec<Arc<str>>),
    /// The pods' own node, which always reaches them.
    OwnNode,
    /// Addresses outside the cluster; none: all that no policy names.
    World(Option<IpNet>),
}

/// Flows that are judged otherwise after a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flip {
    /// Who opens them.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// They pass after the change, and did not before; or the other way.
    pub allowed: bool,
    /// To these ports.
    pub ports: Ports,
}

/// What a change would do.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Flows that are judged otherwise, sorted.
    pub flips: Vec<Flip>,
    /// What is wrong with policies that the change brings.
    pub diagnostics: Vec<(ObjectKey, Diagnostic)>,
}

/// What the change from `before` to `after` would do.
#[must_use]
pub fn diff(before: &State, after: &State, settings: &Settings) -> Difference {
    let mut numbers = HashMap::new();
    let sides = [Side::new(before, settings, &mut numbers), Side::new(after, settings, &mut numbers)];
    let parties = parties(&sides);
    let differs = |party: &&Known| party.own_rows(&sides).is_some_and(|[before, after]| before != after);
    let mut flips = BTreeSet::new();
    for one in parties.iter().filter(differs) {
        for other in &parties {
            flips.extend(flips_of(&sides, one, other));
            if one.party != other.party {
                flips.extend(flips_of(&sides, other, one));
            }
        }
        for outside in outside(&sides, one) {
            flips.extend(flips_of(&sides, one, &outside));
            flips.extend(flips_of(&sides, &outside, one));
        }
    }
    let new = after.objects().filter(|(key, object)| before.get(key) != Some(*object));
    let told = new.filter_map(|(key, _)| Some((key, &sides[1].index.policy(key)?.diagnostics)));
    let diagnostics = told.flat_map(|(key, all)| all.iter().map(|one| (key.clone(), one.clone()))).collect();
    Difference { flips: joined(flips), diagnostics }
}

/// A state as the operator indexes it. Equal labels get equal numbers wherever the same `numbers` are given.
pub(crate) fn indexed(state: &State, settings: &Settings, numbers: &mut HashMap<Arc<Labels>, u32>) -> Index {
    let mut index = Index::new(crate::index::Config {
        cluster: Arc::clone(&settings.cluster),
        families: crate::engine::Families { v4: true, v6: true },
        // So that pods have the addresses that the kubelet reports.
        ipam: crate::config::IpamMode::DelegatedPlugin,
        reserved: [].into(),
        pre_allocation: Arc::default(),
        cidrs_of: settings.cidrs_of,
        host_firewall: settings.host_firewall.clone(),
    });
    state.objects().for_each(|(_, object)| index.upsert(object.clone()));
    let unnumbered: Vec<_> = index.unnumbered().map(|one| Arc::clone(one.labels)).collect();
    for labels in unnumbered {
        let next = 256 + numbers.len() as u32;
        let id = *numbers.entry(Arc::clone(&labels)).or_insert(next);
        let (uid, resource_version) = ("".into(), "".into());
        index.upsert(Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version })));
    }
    index
}

/// A state with what is compiled of it.
struct Side {
    index: Index,
    rows: BTreeMap<u32, Policy>,
}

impl Side {
    fn new(state: &State, settings: &Settings, numbers: &mut HashMap<Arc<Labels>, u32>) -> Self {
        let index = indexed(state, settings, numbers);
        let mut compiler = Rows::default();
        let numbers: Vec<u32> = index.identities().map(|identity| identity.id).collect();
        let row = |id: u32| {
            let row = compiler.row(&index, id, settings.mode)?;
            Some((id, Policy::decode(row.output.1.payload()).ok()?))
        };
        let rows = numbers.into_iter().filter_map(row).collect();
        Self { index, rows }
    }

    fn identity(&self, pod: &Name) -> Option<u32> {
        self.index.identity_of(self.index.pod(pod)?)
    }
}

/// A party, as the kernel knows it on both sides.
struct Known {
    party: Party,
    scope: AnyPeer,
    identity: [Option<u32>; 2],
    address: Option<IpAddr>,
}

impl Known {
    fn peer(&self, side: usize) -> PacketPeer {
        PacketPeer { scope: self.scope, identity: self.identity[side], address: self.address }
    }

    /// The rows of pods, before and after.
    fn own_rows<'a>(&self, sides: &'a [Side; 2]) -> Option<[Option<&'a Policy>; 2]> {
        let row = |side: usize| self.identity[side].and_then(|id| sides[side].rows.get(&id));
        matches!(self.party, Party::Pods { .. }).then(|| [row(0), row(1)])
    }
}

/// Pods that are there before and after: those that are alike in both, also to rules about addresses, are one.
fn parties(sides: &[Side; 2]) -> Vec<Known> {
    let rows = sides.iter().flat_map(|side| side.rows.values());
    let nets = nets(rows, |class| !class.if_pod.is_empty());
    let mut alike: BTreeMap<_, Vec<Name>> = BTreeMap::new();
    for id in sides[1].rows.keys() {
        for pod in sides[1].index.pods_of(*id) {
            let Some(before) = sides[0].identity(pod) else { continue };
            let address = sides[1].index.pod(pod).and_then(|pod| sides[1].index.addresses_of(pod).first().copied());
            let within = address.and_then(|address| {
                nets.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
            });
            alike.entry(([before, *id], within)).or_default().push(pod.clone());
        }
    }
    let known = |(([before, after], _), pods): (([u32; 2], _), Vec<Name>)| {
        let first = pods.first()?;
        let entry = sides[1].index.pod(first)?;
        let party =
            Party::Pods { namespace: Arc::clone(&first.namespace), labels: own_labels(&entry.pod.labels), pods };
        let address = sides[1].index.addresses_of(entry).first().copied();
        Some(Known { party, scope: AnyPeer::Pod, identity: [Some(before), Some(after)], address })
    };
    alike.into_iter().filter_map(known).collect()
}

/// A pod's own labels that are part of its identity.
fn own_labels(labels: &Labels) -> String {
    let own = labels.iter().filter(|(key, _)| crate::index::labels::is_relevant(key));
    own.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Who is no pod, as far as policies of `one` tell them apart.
fn outside(sides: &[Side; 2], one: &Known) -> Vec<Known> {
    let world = |net: Option<IpNet>, address| Known {
        party: Party::World(net),
        scope: AnyPeer::World,
        identity: [Some(WORLD); 2],
        address,
    };
    let nodes = sides[1].index.nodes().filter_map(|node| {
        let address = node.internal_ips.first().copied();
        let party = Party::Nodes(vec![Arc::clone(&node.name)]);
        Some(Known { party, scope: AnyPeer::Node, identity: [Some(REMOTE_NODE); 2], address: Some(address?) })
    });
    let own_node = Known { party: Party::OwnNode, scope: AnyPeer::Node, identity: [Some(HOST); 2], address: None };
    let nets = nets(one.own_rows(sides).into_iter().flatten().flatten(), |class| !class.if_world.is_empty());
    let own = |net: &IpNet| {
        let inner = |address: &IpAddr| {
            nets.iter().any(|other| other.prefix_len() > net.prefix_len() && other.contains(address))
        };
        [net.addr(), net.broadcast()].into_iter().find(|address| !inner(address))
    };
    let named = nets.iter().filter_map(|net| Some(world(Some(*net), Some(own(net)?))));
    [world(None, None), own_node].into_iter().chain(nodes).chain(named).collect()
}

/// The prefixes of some classes.
fn nets<'a>(rows: impl Iterator<Item = &'a Policy>, of: impl Fn(&CidrClass) -> bool) -> BTreeSet<IpNet> {
    let classes = rows.flat_map(|row| row.ingress.iter().chain(&row.egress)).flat_map(|direction| &direction.classes);
    let prefixes = classes.filter(|class| of(class)).flat_map(|class| &class.prefixes);
    let parsed = prefixes.filter_map(|prefix| prefix.parse().ok());
    parsed.filter_map(|(address, length)| IpNet::new(address, length).ok()).collect()
}

/// The flows from one party to another that flip.
fn flips_of(sides: &[Side; 2], from: &Known, to: &Known) -> Vec<Flip> {
    // Policies have no say in what a node sends to its own pods, or a pod to itself.
    let alone = |party: &Party| matches!(party, Party::Pods { pods, .. } if pods.len() == 1);
    if from.party == Party::OwnNode || (from.party == to.party && alone(&from.party)) {
        return Vec::new();
    }
    let side = |side: usize| -> Vec<Said<'_>> {
        let row = |known: &Known| known.own_rows(sides).and_then(|rows| rows[side]);
        let egress = row(from).map(|row| Said::of(row, Direction::Egress, to.peer(side)));
        let ingress = row(to).map(|row| Said::of(row, Direction::Ingress, from.peer(side)));
        egress.into_iter().chain(ingress).collect()
    };
    let (before, after) = (side(0), side(1));
    let flip = |allowed| {
        let passes = |said: &[Said<'_>], protocol, port| said.iter().all(|said| said.passes(protocol, port));
        let flips =
            |protocol, port| passes(&before, protocol, port) != allowed && passes(&after, protocol, port) == allowed;
        let ports = Ports::of(before.iter().chain(&after).flat_map(Said::keys), flips);
        let (from, to) = (from.party.clone(), to.party.clone());
        (!ports.is_empty()).then_some(Flip { from, to, allowed, ports })
    };
    [true, false].into_iter().filter_map(flip).collect()
}

/// Nodes of which the same is said become one party.
fn joined(flips: BTreeSet<Flip>) -> Vec<Flip> {
    let mut kept = BTreeSet::new();
    let mut nodes: BTreeMap<(Party, bool, Ports, bool), Vec<Arc<str>>> = BTreeMap::new();
    for flip in flips {
        match (&flip.from, &flip.to) {
            (Party::Nodes(names), pods) | (pods, Party::Nodes(names)) => {
                let opened = matches!(flip.from, Party::Nodes(_));
                let key = (pods.clone(), flip.allowed, flip.ports.clone(), opened);
                nodes.entry(key).or_default().extend(names.iter().cloned());
            }
            _ => drop(kept.insert(flip)),
        }
    }
    for ((pods, allowed, ports, opened), mut names) in nodes {
        names.sort();
        let nodes = Party::Nodes(names);
        let (from, to) = if opened { (nodes, pods) } else { (pods, nodes) };
        kept.insert(Flip { from, to, allowed, ports });
    }
    kept.into_iter().collect()
}
