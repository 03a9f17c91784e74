//! Secondary indexes: who claims an address, what a node looks like, which slices a service has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axoneme_proto::Scope;
use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::rows::{Content, Node, Settings};
use super::store::RowId;

/// A peer row's claim of an address.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The pod's identity.
    pub identity: u32,
    /// The pod's node.
    pub node: Arc<str>,
    /// Of two pods that claim one address, the one that came later has it.
    order: u64,
}

/// What a node's address is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeAddress {
    /// Of the underlay.
    Underlay,
    /// Of the overlay.
    Overlay,
}

/// Indexes over all accepted rows.
#[derive(Debug, Default)]
pub struct Index {
    claims: BTreeMap<(IpAddr, u64), Claim>,
    names: BTreeSet<Arc<str>>,
    nodes: BTreeMap<Arc<str>, Node>,
    node_addresses: BTreeSet<(IpAddr, NodeAddress, Arc<str>)>,
    node_cidrs: BTreeSet<(IpNet, Arc<str>)>,
    slices: BTreeSet<(Box<str>, Box<str>)>,
    /// Asked for with every address, and decoded once: the cluster's and the node's own.
    settings: [Option<Settings>; 2],
    order: u64,
}

const LOWEST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Index {
    /// Adds a row.
    pub fn insert(&mut self, id: &RowId, content: &Content) {
        match content {
            Content::Peer(peer) => {
                self.order += 1;
                let node = self.name(&peer.node);
                for &address in &peer.addresses {
                    let claim = Claim { identity: peer.identity, node: node.clone(), order: self.order };
                    self.claims.insert((address, row_hash(id, peer.identity)), claim);
                }
            }
            Content::Node(node) => {
                let name = self.name(&id.key);
                for &address in &node.addresses {
                    self.node_addresses.insert((address, NodeAddress::Underlay, name.clone()));
                }
                for &address in &node.overlay_addresses {
                    self.node_addresses.insert((address, NodeAddress::Overlay, name.clone()));
                }
                for &cidr in &node.pod_cidrs {
                    self.node_cidrs.insert((cidr, name.clone()));
                }
                self.nodes.insert(name, node.clone());
            }
            Content::Backends(backends) => {
                self.slices.insert((backends.service.as_str().into(), id.key.clone()));
            }
            Content::Settings(settings) => self.settings[own(id)] = Some(settings.clone()),
            _ => {}
        }
    }

    /// Removes a row that was added with the same content.
    pub fn remove(&mut self, id: &RowId, content: &Content) {
        match content {
            Content::Peer(peer) => {
                for &address in &peer.addresses {
                    self.claims.remove(&(address, row_hash(id, peer.identity)));
                }
            }
            Content::Node(node) => {
                let name = self.name(&id.key);
                for &address in &node.addresses {
                    self.node_addresses.remove(&(address, NodeAddress::Underlay, name.clone()));
                }
                for &address in &node.overlay_addresses {
                    self.node_addresses.remove(&(address, NodeAddress::Overlay, name.clone()));
                }
                for &cidr in &node.pod_cidrs {
                    self.node_cidrs.remove(&(cidr, name.clone()));
                }
                self.nodes.remove(&name);
            }
            Content::Backends(backends) => {
                self.slices.remove(&(backends.service.as_str().into(), id.key.clone()));
            }
            Content::Settings(_) => self.settings[own(id)] = None,
            _ => {}
        }
    }

    /// The node's own settings if it has some, else the cluster's. Without the cluster's, nothing is known yet.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        let [cluster, own] = &self.settings;
        own.as_ref().filter(|_| cluster.is_some()).or(cluster.as_ref())
    }

    /// The pod that has this address.
    #[must_use]
    pub fn claim(&self, address: IpAddr) -> Option<&Claim> {
        self.claims.range((address, 0)..=(address, u64::MAX)).map(|(_, claim)| claim).max_by_key(|claim| claim.order)
    }

    /// Every address that a pod claims.
    pub fn claimed(&self) -> impl Iterator<Item = IpAddr> {
        self.claims.keys().map(|(address, _)| *address)
    }

    /// Addresses of the pods of one node. Looks at all pods.
    pub fn claimed_on(&self, node: &str) -> impl Iterator<Item = IpAddr> {
        self.claims.iter().filter(move |(_, claim)| &*claim.node == node).map(|((address, _), _)| *address)
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        self.nodes.iter()
    }

    /// The node that has this address; the underlay comes first.
    #[must_use]
    pub fn node_address(&self, address: IpAddr) -> Option<(NodeAddress, &str)> {
        let first = (address, NodeAddress::Underlay, Arc::from(""));
        let (found, kind, name) = self.node_addresses.range(first..).next()?;
        (*found == address).then_some((*kind, name))
    }

    /// The node that has this prefix.
    #[must_use]
    pub fn node_cidr(&self, cidr: IpNet) -> Option<&str> {
        let (found, name) = self.node_cidrs.range((cidr, Arc::from(""))..).next()?;
        (*found == cidr).then_some(name)
    }

    /// Every address of a node.
    pub fn all_node_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.node_addresses.range((LOWEST, NodeAddress::Underlay, Arc::from(""))..).map(|(address, ..)| *address)
    }

    /// Every prefix of a node.
    pub fn all_node_cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.node_cidrs.iter().map(|(cidr, _)| *cidr)
    }

    /// Keys of the slices of a service.
    pub fn slices<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a str> {
        let first = (Box::from(service), Box::from(""));
        self.slices.range(first..).take_while(move |(of, _)| &**of == service).map(|(_, slice)| &**slice)
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }
}

fn own(id: &RowId) -> usize {
    usize::from(matches!(id.scope, Scope::Node(_)))
}

/// Tells rows apart that claim one address, also those of one pod in two scopes. Pod UIDs do not collide in 64 bits.
fn row_hash(id: &RowId, identity: u32) -> u64 {
    xxh3_64_with_seed(id.key.as_bytes(), identity.into())
}
