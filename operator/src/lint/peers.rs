//! Whom the rules of a subject tell apart: of all that they treat alike, one stands for the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use axoneme_proto::tables::AnyPeer;
use ipnet::IpNet;

use super::classes::Classes;
use crate::compile::policy::{
    HOST, ICMP, ICMPV6, Owners, PacketPeer, ParsedPeer, PeerView, REMOTE_NODE, Subject, WORLD,
};
use crate::index::Index;
use crate::object::Direction;

/// Who there is.
#[derive(Debug)]
pub(super) struct Inhabitants {
    /// Identities that pods have.
    pub(super) identities: BTreeSet<u32>,
    addresses: HashMap<u32, Vec<IpAddr>>,
    nodes: Vec<IpAddr>,
    /// Whether pods have, or may have, addresses of IPv4 and of IPv6.
    families: [bool; 2],
}

impl Inhabitants {
    pub(super) fn of(index: &Index) -> Self {
        let identities: BTreeSet<u32> =
            index.identities().map(|identity| identity.id).filter(|id| index.has_pods(*id)).collect();
        let addresses = |id: &u32| {
            let pods = index.pods_of(*id).filter_map(|pod| index.pod(pod));
            (*id, pods.flat_map(|pod| index.addresses_of(pod)).collect())
        };
        let addresses: HashMap<u32, Vec<IpAddr>> = identities.iter().map(addresses).collect();
        let mut nodes: Vec<IpAddr> = index.nodes().flat_map(|node| index.addresses_of_node(&node.name)).collect();
        nodes.sort();
        let has = |v6: bool| addresses.values().flatten().any(|address| address.is_ipv6() == v6);
        let unknown = !has(false) && !has(true);
        Self { families: [unknown || has(false), unknown || has(true)], identities, addresses, nodes }
    }

    /// Whether packets of a protocol can go to or come from a peer: ICMP is of one family.
    pub(super) fn fits(&self, peer: &PacketPeer, protocol: u8) -> bool {
        let [v4, v6] = peer.address.map_or(self.families, |address| [address.is_ipv4(), address.is_ipv6()]);
        match protocol {
            ICMP => v4,
            ICMPV6 => v6,
            _ => true,
        }
    }

    /// Peers of a subject: of all that its rules for a direction treat alike at least one. Pods and nodes are there without an
    /// address too, because a rule that names them means them wherever they are.
    pub(super) fn peers(&self, subject: &Subject<'_>, direction: Direction, index: &Index) -> Vec<PacketPeer> {
        let told = Told::by(subject, direction, index);
        let classes = Classes::of(&told.nets);
        let mut pods: BTreeMap<(&[Mark], Option<usize>), PacketPeer> = BTreeMap::new();
        for id in &self.identities {
            let marks = told.marks.get(id).map_or(&[][..], |marks| marks);
            let peer = |address| PacketPeer { scope: AnyPeer::Pod, identity: Some(*id), address };
            pods.entry((marks, None)).or_insert(peer(None));
            for address in self.addresses.get(id).into_iter().flatten().filter(|_| told.addresses_of_pods) {
                pods.entry((marks, classes.class_of(*address))).or_insert(peer(Some(*address)));
            }
        }
        // To a node all nodes are others.
        let numbers: &[u32] = if subject.identity == HOST { &[REMOTE_NODE] } else { &[HOST, REMOTE_NODE] };
        let node =
            |address| numbers.iter().map(move |id| PacketPeer { scope: AnyPeer::Node, identity: Some(*id), address });
        let of_class: BTreeMap<_, _> =
            self.nodes.iter().map(|address| (classes.class_of(*address), *address)).collect();
        let nodes = node(None).chain(of_class.into_values().flat_map(|address| node(Some(address))));
        let world =
            |address: &IpAddr| PacketPeer { scope: AnyPeer::World, identity: Some(WORLD), address: Some(*address) };
        pods.into_values().chain(nodes).chain(classes.representatives.iter().map(world)).collect()
    }
}

/// What tells: its number, and the number that a port's name has.
type Mark = (usize, u16);

/// By what rules tell peers apart.
#[derive(Default)]
struct Told {
    /// Selectors and ports' names, by identity.
    marks: BTreeMap<u32, Vec<Mark>>,
    nets: Vec<(usize, IpNet)>,
    /// Some of the nets mean pods.
    addresses_of_pods: bool,
    /// So many things tell.
    count: usize,
}

impl Told {
    fn by(subject: &Subject<'_>, direction: Direction, index: &Index) -> Self {
        let mut told = Self::default();
        for rule in subject.policies.iter().flat_map(|policy| &policy.parsed.direction(direction).rules) {
            rule.peers.iter().for_each(|peer| told.peer(peer, index));
            for port in rule.ports.named.iter().filter(|_| direction == Direction::Egress) {
                let numbers = |id: u32| index.ports(id, port).into_iter().map(move |number| (id, number));
                told.mark(index.with_port(port).into_iter().flat_map(numbers).collect());
            }
        }
        told
    }

    fn peer(&mut self, peer: &ParsedPeer, index: &Index) {
        let identities = |all: Vec<u32>| all.into_iter().map(|id| (id, 0)).collect();
        match peer {
            ParsedPeer::Everything | ParsedPeer::Scope(_) | ParsedPeer::Node(_) => {}
            ParsedPeer::Selected(selector) => self.mark(identities(index.selected(selector))),
            ParsedPeer::Nodes(selector) => self.nets(PeerView::nodes(index, selector), false),
            ParsedPeer::ApiServer => self.nets(index.api_server(), true),
            ParsedPeer::Services(services) => {
                self.mark(identities(index.behind(services)));
                self.nets(index.endpoints(services), true);
            }
            ParsedPeer::Groups { groups, except, of } => {
                self.nets(index.cidrs(groups), *of == Owners::All);
                self.nets(except.clone(), false);
            }
            ParsedPeer::Block { cidr, except, of } => {
                self.nets(vec![*cidr], *of == Owners::All);
                self.nets(except.clone(), false);
            }
        }
    }

    fn mark(&mut self, marked: Vec<(u32, u16)>) {
        for (id, number) in marked {
            self.marks.entry(id).or_default().push((self.count, number));
        }
        self.count += 1;
    }

    fn nets(&mut self, nets: Vec<IpNet>, of_pods: bool) {
        self.addresses_of_pods |= of_pods && !nets.is_empty();
        self.nets.extend(nets.into_iter().map(|net| (self.count, net)));
        self.count += 1;
    }
}
