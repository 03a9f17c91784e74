//! Who owns an address: `ax_addresses` and `ax_cidrs`, but for local endpoints, which are written where they are attached.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axoneme_bpf::address::{Address, AddressKey, AddressKind, CidrKey};
use ipnet::IpNet;
use tokio::time::Instant;

use super::ops::{MapError, MapOps, OnLink, Routing, neighbour};
use super::policy::PeerChange;
use super::queue::{Failure, Queue};
use crate::desired::{Desired, NodeAddress, RowId};
use axoneme_proto::{Scope, Table};

/// What the node itself knows of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    /// Of the host, but for overlay addresses.
    pub host: BTreeSet<IpAddr>,
    /// Prefixes whose addresses are neighbours.
    pub on_link: Vec<OnLink>,
}

/// A key of either map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerKey {
    /// Of `ax_addresses`.
    Address(IpAddr),
    /// Of `ax_cidrs`.
    Cidr(IpNet),
}

/// The first of these addresses in one family.
#[must_use]
pub fn address_of_family(addresses: &[IpAddr], ipv4: bool) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
}

/// Where tunnel packets for a node go: its address in the family that the cluster tunnels over, or in the only one that this
/// node has.
#[must_use]
pub fn tunnel_end(desired: &Desired, node: &str) -> Option<IpAddr> {
    let addresses = &desired.index().node(node)?.addresses;
    let ipv4 = !desired.settings().is_some_and(|settings| settings.tunnel_over_ipv6);
    let own = desired.own_node().map_or(&[][..], |own| &own.addresses);
    let fits = own.is_empty() || address_of_family(own, ipv4).is_some();
    address_of_family(addresses, ipv4 == fits)
}

/// How a packet for an address of this family gets to the node that owns it; None: it cannot be sent there.
fn way(desired: &Desired, local: &LocalAddresses, node: &str, ipv4: bool, owner: Address) -> Option<Address> {
    let end = if desired.settings().is_some_and(|settings| settings.routing == Routing::Native) {
        let end = desired.index().node(node).and_then(|node| address_of_family(&node.addresses, ipv4));
        let Some(end) = end else { return Some(owner) };
        end
    } else {
        tunnel_end(desired, node)?
    };
    let next_hop = neighbour(&local.on_link, end).filter(|_| neighbours_are_direct(desired));
    let owner = owner.behind(end);
    Some(next_hop.map_or(owner, |next_hop| owner.direct(next_hop.device)))
}

/// Whether nodes that are neighbours are sent to without asking the host's routes. In a tunnel the underlay is left no choice.
fn neighbours_are_direct(desired: &Desired) -> bool {
    desired.settings().is_none_or(|settings| settings.routing != Routing::Native || settings.direct_routes)
}

/// What `ax_addresses` shall hold for an address; None: nothing, or what the attachment of a local endpoint wrote.
#[must_use]
pub fn address(desired: &Desired, local: &LocalAddresses, address: IpAddr) -> Option<Address> {
    let own = desired.node_name();
    if let Some((kind, node)) = desired.index().node_address(address) {
        return match kind {
            NodeAddress::Underlay if node == own => Some(Address::host()),
            NodeAddress::Overlay if node == own => Some(Address::host_overlay()),
            NodeAddress::Underlay => Some(Address::node()),
            NodeAddress::Overlay => way(desired, local, node, address.is_ipv4(), Address::of_node_overlay()),
        };
    }
    if local.host.contains(&address) {
        return Some(Address::host());
    }
    let claim = desired.index().claim(address)?;
    if *claim.node == *own {
        return None;
    }
    way(desired, local, &claim.node, address.is_ipv4(), Address::of_pod(claim.identity))
}

/// What `ax_cidrs` shall hold for a prefix.
#[must_use]
pub fn cidr(desired: &Desired, local: &LocalAddresses, cidr: IpNet) -> Option<Address> {
    if let Some(node) = desired.index().node_cidr(cidr).filter(|node| *node != desired.node_name()) {
        return way(desired, local, node, cidr.addr().is_ipv4(), Address::of_pod(0));
    }
    // Pods of the cluster, on no node that is known or on this one: not the world, and nowhere to send to.
    let of_cluster = desired.settings().is_some_and(|settings| settings.pod_cidrs.contains(&cidr));
    let of_node = desired.index().node_cidr(cidr).is_some();
    (of_cluster || of_node).then(|| Address::of_pod(0))
}

/// The reconciler of addresses and prefixes.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Peers {
    addresses: Box<dyn MapOps<AddressKey, Address>>,
    cidrs: Box<dyn MapOps<CidrKey, Address>>,
    /// Keys that have to be looked at.
    pub queue: Queue<PeerKey>,
    local: LocalAddresses,
}

impl Peers {
    /// Over these maps, whatever they hold.
    #[must_use]
    pub fn new(addresses: Box<dyn MapOps<AddressKey, Address>>, cidrs: Box<dyn MapOps<CidrKey, Address>>) -> Self {
        Self { addresses, cidrs, queue: Queue::default(), local: LocalAddresses::default() }
    }

    /// What this node's host has changed.
    pub fn set_local(&mut self, local: LocalAddresses, desired: &Desired) {
        if local == self.local {
            return;
        }
        let (since, index) = (desired.revision(), desired.index());
        if neighbours_are_direct(desired) && local.on_link != self.local.on_link {
            let addresses = index.claimed().chain(index.all_node_addresses()).map(PeerKey::Address);
            self.queue.mark_all(addresses.chain(index.all_node_cidrs().map(PeerKey::Cidr)).map(|key| (key, since)));
        }
        for &address in local.host.symmetric_difference(&self.local.host) {
            self.queue.mark(PeerKey::Address(address), since);
        }
        self.local = local;
    }

    /// Whether a key is to be there. Removals come after everything that might still need it.
    #[must_use]
    pub fn is_desired(&self, key: PeerKey, desired: &Desired) -> bool {
        match key {
            PeerKey::Address(ip) => address(desired, &self.local, ip).is_some(),
            PeerKey::Cidr(net) => cidr(desired, &self.local, net).is_some(),
        }
    }

    /// What is desired at a key, and what the kernel has. A local endpoint's address is desired as it is attached.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn look(&self, key: PeerKey, desired: &Desired) -> Result<(Option<Address>, Option<Address>), MapError> {
        let (wanted, found) = match key {
            PeerKey::Address(ip) => (address(desired, &self.local, ip), self.addresses.get(&AddressKey::from(ip))?),
            PeerKey::Cidr(net) => {
                let found = self.cidrs.get(&CidrKey::new(net.addr(), net.prefix_len()))?;
                (cidr(desired, &self.local, net), found)
            }
        };
        let attached = found.filter(|found| found.kind == AddressKind::ENDPOINT);
        Ok((attached.or(wanted), found))
    }

    /// Brings one key to what is desired, and tells what changed for policies.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn reconcile(&mut self, key: PeerKey, desired: &Desired) -> Result<Option<PeerChange>, Failure> {
        let (old, new) = match key {
            PeerKey::Address(ip) => {
                let (kernel, new) = (AddressKey::from(ip), address(desired, &self.local, ip));
                let old = self.addresses.get(&kernel)?;
                if old.is_some_and(|old| old.kind == AddressKind::ENDPOINT) {
                    // A local endpoint has it as long as it is attached.
                    return Ok(None);
                }
                write(&mut *self.addresses, &kernel, old, new).map_err(|err| fail(err, key, desired))?;
                (old, new)
            }
            PeerKey::Cidr(net) => {
                let (kernel, new) = (CidrKey::new(net.addr(), net.prefix_len()), cidr(desired, &self.local, net));
                let old = self.cidrs.get(&kernel)?;
                write(&mut *self.cidrs, &kernel, old, new).map_err(|err| fail(err, key, desired))?;
                (old, new)
            }
        };
        Ok(change(old, new))
    }

    /// Marks every key whose entry is not as desired; those that are not desired at all only if absence means anything.
    /// Returns how many.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn compare(&mut self, desired: &Desired, prune: bool) -> Result<usize, MapError> {
        let revision = desired.revision();
        let mut missing: BTreeSet<PeerKey> = desired.index().claimed().map(PeerKey::Address).collect();
        missing.extend(desired.index().all_node_addresses().map(PeerKey::Address));
        missing.extend(self.local.host.iter().copied().map(PeerKey::Address));
        missing.extend(desired.index().all_node_cidrs().map(PeerKey::Cidr));
        missing.extend(desired.settings().into_iter().flat_map(|s| &s.pod_cidrs).copied().map(PeerKey::Cidr));
        missing.retain(|&key| self.is_desired(key, desired));
        let mut differing = Vec::new();
        let mut see = |key: PeerKey, found: Address, wanted: Option<Address>| {
            missing.remove(&key);
            if found.kind != AddressKind::ENDPOINT && wanted != Some(found) && (wanted.is_some() || prune) {
                differing.push(key);
            }
        };
        self.addresses.dump(&mut |key, found| {
            if let Some(ip) = key.address.to_ip(key.family) {
                see(PeerKey::Address(ip), found, address(desired, &self.local, ip));
            }
        })?;
        self.cidrs.dump(&mut |key, found| {
            let length = key.prefixlen.checked_sub(CidrKey::STATIC_BITS).and_then(|bits| u8::try_from(bits).ok());
            let net = key.address.to_ip(key.family).zip(length).and_then(|(ip, bits)| IpNet::new(ip, bits).ok());
            if let Some(net) = net {
                see(PeerKey::Cidr(net), found, cidr(desired, &self.local, net));
            }
        })?;
        differing.extend(missing);
        let count = differing.len();
        differing.into_iter().for_each(|key| self.queue.mark(key, revision));
        Ok(count)
    }

    /// Ends `work`.
    pub fn settle(&mut self, work: super::queue::Work<PeerKey>, result: Result<(), Failure>, now: Instant) {
        self.queue.settle(work, result, now);
    }
}

fn write<K: super::ops::MapKey>(
    map: &mut dyn MapOps<K, Address>,
    key: &K,
    old: Option<Address>,
    new: Option<Address>,
) -> Result<(), MapError> {
    match new {
        _ if old == new => Ok(()),
        Some(new) => map.update(key, &new),
        None => map.delete(key),
    }
}

fn change(old: Option<Address>, new: Option<Address>) -> Option<PeerChange> {
    if old == new {
        return None;
    }
    let identity = |row: Option<Address>| row.map_or(0, |row| row.identity);
    let of_node = |row: Option<Address>| row.is_some_and(|row| row.kind != AddressKind::POD);
    let moved = of_node(old) != of_node(new);
    if !moved && old.is_some() && new.is_some() && identity(old) == identity(new) {
        return None; // another way
    }
    Some(PeerChange { identities: vec![identity(old), identity(new)], of_scope: moved })
}

/// The row that asked for this key, as far as there is one.
fn fail(err: MapError, key: PeerKey, desired: &Desired) -> Failure {
    let failure = Failure::from(err);
    let index = desired.index();
    let row = match key {
        PeerKey::Address(ip) => match (index.node_address(ip), index.claim(ip)) {
            (Some((_, node)), _) => Some(RowId::new(Scope::Cluster, Table::Node, node)),
            (None, Some(claim)) => desired.peer_row(claim.identity, ip),
            (None, None) => None,
        },
        PeerKey::Cidr(net) => index.node_cidr(net).map(|node| RowId::new(Scope::Cluster, Table::Node, node)),
    };
    match row {
        Some(row) => failure.of(row),
        None => failure,
    }
}
