//! What a change would do to who reaches whom, before it is made: the rows of the cluster as it is and as it would be, judged as
//! nodes judge them.

mod parties;
mod ports;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axoneme_proto::tables::{AnyPeer, Policy, PolicyMode};
use ipnet::IpNet;
use prost::Message;

use crate::compile::policy::{Emergency, HOST, Owners, PolicyRow, Rows, Said};
use crate::engine::Diagnostic;
use crate::index::Index;
use crate::object::{CiliumIdentity, Direction, Labels, Name, Node, Object, ObjectKey};

use parties::{Known, nodes, outside, pods};
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
    /// The pods' own node, which always reaches them. [`Party::Nodes`] are other nodes to pods.
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
    let nodes = nodes(&sides);
    let parties: Vec<Known<'_>> = pods(&sides).into_iter().chain(nodes.iter().cloned()).collect();
    let mut flips = BTreeSet::new();
    for one in parties.iter().filter(|party| party.differs()) {
        for other in &parties {
            flips.extend(flips_of(one, other));
            if one.party != other.party {
                flips.extend(flips_of(other, one));
            }
        }
        for outside in outside(one) {
            flips.extend(flips_of(one, &outside));
            flips.extend(flips_of(&outside, one));
        }
    }
    let own_nodes = OwnNodes::of(&nodes);
    for one in &parties {
        flips.extend(own_nodes.flips_from(one, &sides[1].index));
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
    /// Those of nodes that policies select.
    rows_of_nodes: BTreeMap<Arc<str>, Policy>,
}

impl Side {
    fn new(state: &State, settings: &Settings, numbers: &mut HashMap<Arc<Labels>, u32>) -> Self {
        let index = indexed(state, settings, numbers);
        let mut compiler = Rows::default();
        let numbers: Vec<u32> = index.identities().map(|identity| identity.id).collect();
        let decoded = |row: PolicyRow| Policy::decode(row.output.1.payload()).ok();
        let row = |id: u32| Some((id, decoded(compiler.row(&index, id, settings.mode)?)?));
        let rows = numbers.into_iter().filter_map(row).collect();
        let row = |node: &Arc<Node>| {
            Some((Arc::clone(&node.name), decoded(compiler.host_row(&index, &node.name, settings.mode)?)?))
        };
        let rows_of_nodes = index.nodes().filter_map(row).collect();
        Self { index, rows, rows_of_nodes }
    }

    fn identity(&self, pod: &Name) -> Option<u32> {
        self.index.identity_of(self.index.pod(pod)?)
    }
}

/// Nodes, as pods that they run know them. What they send to these always passes.
struct OwnNodes<'k> {
    nodes: &'k [Known<'k>],
    /// Where each stands among them.
    places: HashMap<Arc<str>, usize>,
}

impl<'k> OwnNodes<'k> {
    fn of(nodes: &'k [Known<'k>]) -> Self {
        let names = |(place, node): (usize, &Known<'_>)| match &node.party {
            Party::Nodes(names) => names.iter().map(|name| (Arc::clone(name), place)).collect(),
            _ => Vec::new(),
        };
        Self { nodes, places: nodes.iter().enumerate().flat_map(names).collect() }
    }

    /// The flows from pods to their own nodes that flip.
    fn flips_from(&self, from: &Known<'_>, index: &Index) -> Vec<Flip> {
        let Party::Pods { namespace, labels, pods } = &from.party else { return Vec::new() };
        let mut by_place: BTreeMap<Option<usize>, Vec<Name>> = BTreeMap::new();
        for pod in pods {
            let node = index.pod(pod).and_then(|entry| entry.pod.node.as_ref());
            by_place.entry(node.and_then(|node| self.places.get(node).copied())).or_default().push(pod.clone());
        }
        let mut found: BTreeMap<(bool, Ports), Vec<Name>> = BTreeMap::new();
        for (place, pods) in by_place {
            let node = place.and_then(|place| self.nodes.get(place));
            let own = Known {
                party: Party::OwnNode,
                scope: AnyPeer::Node,
                identity: [Some(HOST); 2],
                address: node.and_then(|node| node.address),
                rows: node.map_or([None; 2], |node| node.rows),
            };
            if from.differs() || own.differs() {
                for flip in flips_of(from, &own) {
                    found.entry((flip.allowed, flip.ports)).or_default().extend(pods.iter().cloned());
                }
            }
        }
        let flip = |((allowed, ports), mut pods): ((bool, Ports), Vec<Name>)| {
            pods.sort();
            let from = Party::Pods { namespace: Arc::clone(namespace), labels: labels.clone(), pods };
            Flip { from, to: Party::OwnNode, allowed, ports }
        };
        found.into_iter().map(flip).collect()
    }
}

/// The flows from one party to another that flip.
fn flips_of(from: &Known<'_>, to: &Known<'_>) -> Vec<Flip> {
    // Policies have no say in what a pod or node sends to itself.
    let alone = match &from.party {
        Party::Pods { pods, .. } => pods.len() == 1,
        Party::Nodes(names) => names.len() == 1,
        _ => true,
    };
    if alone && from.party == to.party {
        return Vec::new();
    }
    let side = |side: usize| -> Vec<Said<'_>> {
        let egress = from.rows[side].map(|row| Said::of(row, Direction::Egress, to.peer(side)));
        let ingress = to.rows[side].map(|row| Said::of(row, Direction::Ingress, from.peer(side)));
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
    let by_source = joined_at(flips, |flip| &mut flip.from);
    joined_at(by_source, |flip| &mut flip.to).into_iter().collect()
}

/// The same at one end.
fn joined_at(flips: BTreeSet<Flip>, end: impl Fn(&mut Flip) -> &mut Party) -> BTreeSet<Flip> {
    let mut nodes: BTreeMap<Flip, Vec<Arc<str>>> = BTreeMap::new();
    for mut flip in flips {
        let names = if let Party::Nodes(names) = end(&mut flip) { std::mem::take(names) } else { Vec::new() };
        nodes.entry(flip).or_default().extend(names);
    }
    let whole = |(mut flip, mut names): (Flip, Vec<Arc<str>>)| {
        if let Party::Nodes(own) = end(&mut flip) {
            names.sort();
            *own = names;
        }
        flip
    };
    nodes.into_iter().map(whole).collect()
}
