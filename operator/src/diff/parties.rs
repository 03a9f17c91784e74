//! Who sends and receives, as far as policies tell them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{AnyPeer, CidrClass, Policy, PolicyDirection};
use ipnet::IpNet;

use super::{Party, Side};
use crate::compile::policy::{PacketPeer, REMOTE_NODE, WORLD};
use crate::object::{Labels, Name};

/// A party, as the kernel knows it before and after.
#[derive(Clone)]
pub(super) struct Known<'a> {
    pub(super) party: Party,
    pub(super) scope: AnyPeer,
    pub(super) identity: [Option<u32>; 2],
    pub(super) address: Option<IpAddr>,
    /// By which its packets are judged; none: nothing is said of them.
    pub(super) rows: [Option<&'a Policy>; 2],
}

impl Known<'_> {
    pub(super) fn peer(&self, side: usize) -> PacketPeer {
        PacketPeer { scope: self.scope, identity: self.identity[side], address: self.address }
    }

    pub(super) fn differs(&self) -> bool {
        self.rows[0] != self.rows[1]
    }
}

/// Pods that are there before and after: those that are alike in both, also to rules about addresses, are one.
pub(super) fn pods(sides: &[Side; 2]) -> Vec<Known<'_>> {
    let nets = told_apart(all_rows(sides), |class| !class.if_pod.is_empty());
    let mut alike: BTreeMap<_, Vec<Name>> = BTreeMap::new();
    for id in sides[1].rows.keys() {
        for pod in sides[1].index.pods_of(*id) {
            let Some(before) = sides[0].identity(pod) else { continue };
            let address = sides[1].index.pod(pod).and_then(|pod| sides[1].index.addresses_of(pod).first().copied());
            alike.entry(([before, *id], narrowest(&nets, address))).or_default().push(pod.clone());
        }
    }
    let known = |(([before, after], _), pods): (([u32; 2], _), Vec<Name>)| {
        let first = pods.first()?;
        let entry = sides[1].index.pod(first)?;
        let party =
            Party::Pods { namespace: Arc::clone(&first.namespace), labels: own_labels(&entry.pod.labels), pods };
        let address = sides[1].index.addresses_of(entry).first().copied();
        let rows = [sides[0].rows.get(&before), sides[1].rows.get(&after)];
        Some(Known { party, scope: AnyPeer::Pod, identity: [Some(before), Some(after)], address, rows })
    };
    alike.into_iter().filter_map(known).collect()
}

/// Nodes that are there before and after, in the same way.
pub(super) fn nodes(sides: &[Side; 2]) -> Vec<Known<'_>> {
    let nets = told_apart(all_rows(sides), |class| !class.if_node.is_empty());
    let mut alike: Vec<(Option<IpNet>, Known<'_>)> = Vec::new();
    for node in sides[1].index.nodes().filter(|node| sides[0].index.node(&node.name).is_some()) {
        let address = node.internal_ips.first().copied();
        let rows = [0, 1].map(|side: usize| sides[side].rows_of_nodes.get(&node.name));
        let within = narrowest(&nets, address);
        let same = alike.iter_mut().find(|(net, known)| *net == within && known.rows == rows);
        match same.map(|(_, known)| &mut known.party) {
            Some(Party::Nodes(names)) => names.push(Arc::clone(&node.name)),
            _ => {
                let party = Party::Nodes(vec![Arc::clone(&node.name)]);
                let identity = [Some(REMOTE_NODE); 2];
                alike.push((within, Known { party, scope: AnyPeer::Node, identity, address, rows }));
            }
        }
    }
    alike.into_iter().map(|(_, known)| known).collect()
}

/// All that packets are judged by.
fn all_rows(sides: &[Side; 2]) -> impl Iterator<Item = &Policy> {
    sides.iter().flat_map(|side| side.rows.values().chain(side.rows_of_nodes.values()))
}

/// The prefix by which rules know an address.
fn narrowest(nets: &BTreeSet<IpNet>, address: Option<IpAddr>) -> Option<IpNet> {
    let containing = nets.iter().filter(|net| address.is_some_and(|address| net.contains(&address)));
    containing.max_by_key(|net| net.prefix_len()).copied()
}

/// A pod's own labels that are part of its identity.
fn own_labels(labels: &Labels) -> String {
    let own = labels.iter().filter(|(key, _)| crate::index::labels::is_relevant(key));
    own.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Who is outside the cluster, as far as policies of `one` tell them apart.
pub(super) fn outside(one: &Known<'_>) -> Vec<Known<'static>> {
    let world = |net: Option<IpNet>, address| Known {
        party: Party::World(net),
        scope: AnyPeer::World,
        identity: [Some(WORLD); 2],
        address,
        rows: [None; 2],
    };
    let nets = nets(one.rows.into_iter().flatten(), |class| !class.if_world.is_empty());
    let own = |net: &IpNet| {
        let inner = |address: &IpAddr| {
            nets.iter().any(|other| other.prefix_len() > net.prefix_len() && other.contains(address))
        };
        [net.addr(), net.broadcast()].into_iter().find(|address| !inner(address))
    };
    let named = nets.iter().filter_map(|net| Some(world(Some(*net), Some(own(net)?))));
    std::iter::once(world(None, None)).chain(named).collect()
}

/// The prefixes by which rules tell addresses apart of those of whom some classes say something: exceptions among them, of which
/// nothing is said.
fn told_apart<'a>(rows: impl Iterator<Item = &'a Policy>, of: impl Fn(&CidrClass) -> bool) -> BTreeSet<IpNet> {
    prefixes(directions(rows).filter(|direction| direction.classes.iter().any(&of)).flat_map(|row| &row.classes))
}

/// The prefixes of some classes.
fn nets<'a>(rows: impl Iterator<Item = &'a Policy>, of: impl Fn(&CidrClass) -> bool) -> BTreeSet<IpNet> {
    prefixes(directions(rows).flat_map(|direction| &direction.classes).filter(|class| of(class)))
}

fn directions<'a>(rows: impl Iterator<Item = &'a Policy>) -> impl Iterator<Item = &'a PolicyDirection> {
    rows.flat_map(|row| row.ingress.iter().chain(&row.egress))
}

fn prefixes<'a>(classes: impl Iterator<Item = &'a CidrClass>) -> BTreeSet<IpNet> {
    let parsed = classes.flat_map(|class| &class.prefixes).filter_map(|prefix| prefix.parse().ok());
    parsed.filter_map(|(address, length)| IpNet::new(address, length).ok()).collect()
}
