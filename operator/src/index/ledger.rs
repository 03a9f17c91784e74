//! Ledgers: which pod has which address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::Index;
use crate::compile::policy::Dependency;
use crate::object::CiliumNode;

/// An entry of some node's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// The address.
    pub address: IpAddr,
    /// The endpoint key that it is given to.
    pub resource: Arc<str>,
    /// The node whose ledger says so.
    pub node: Arc<str>,
}

/// All ledgers.
#[derive(Debug)]
pub struct Ledgers {
    nodes: BTreeMap<Arc<str>, Arc<CiliumNode>>,
    by_resource: HashMap<Arc<str>, BTreeSet<(Arc<str>, IpAddr)>>,
    by_address: BTreeSet<Entry>,
    /// Where the search for an address begins.
    first: Arc<str>,
}

impl Default for Ledgers {
    fn default() -> Self {
        let (nodes, by_resource, by_address) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Self { nodes, by_resource, by_address, first: Arc::from("") }
    }
}

impl Ledgers {
    /// A node's ledger.
    #[must_use]
    pub fn get(&self, node: &str) -> Option<&Arc<CiliumNode>> {
        self.nodes.get(node)
    }

    /// All ledgers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CiliumNode>> {
        self.nodes.values()
    }

    /// Addresses that `node`'s ledger gives to `resource`, sorted.
    pub fn addresses(&self, node: &str, resource: &str) -> impl Iterator<Item = IpAddr> {
        let entries = self.by_resource.get(resource).into_iter().flatten();
        entries.filter(move |(of, _)| **of == *node).map(|(_, address)| *address)
    }

    /// Everybody to whom `address` is given, sorted.
    pub fn claims(&self, address: IpAddr) -> impl Iterator<Item = &Entry> {
        let first = Entry { address, resource: Arc::clone(&self.first), node: Arc::clone(&self.first) };
        self.by_address.range(first..).take_while(move |entry| entry.address == address)
    }

    /// Replaces a node's ledger; gives back the entries that are new or gone.
    pub fn set(&mut self, name: &Arc<str>, ledger: Option<Arc<CiliumNode>>) -> Vec<Entry> {
        let old = match &ledger {
            Some(ledger) => self.nodes.insert(Arc::clone(name), Arc::clone(ledger)),
            None => self.nodes.remove(name),
        };
        let mut changed = Vec::new();
        let has = |ledger: &Option<Arc<CiliumNode>>, address: &IpAddr, resource: &Arc<str>| {
            let pool = ledger.as_ref().map(|ledger| &ledger.pool);
            pool.and_then(|pool| pool.get(address)).is_some_and(|entry| entry.resource == *resource)
        };
        let entry = |address: &IpAddr, resource: &Arc<str>| Entry {
            address: *address,
            resource: Arc::clone(resource),
            node: Arc::clone(name),
        };
        for (address, gone) in old.iter().flat_map(|old| &old.pool) {
            if !has(&ledger, address, &gone.resource) {
                let entry = entry(address, &gone.resource);
                self.remove(&entry);
                changed.push(entry);
            }
        }
        for (address, new) in ledger.iter().flat_map(|new| &new.pool) {
            if !has(&old, address, &new.resource) {
                let entry = entry(address, &new.resource);
                let of_resource = self.by_resource.entry(Arc::clone(&entry.resource)).or_default();
                of_resource.insert((Arc::clone(name), *address));
                self.by_address.insert(entry.clone());
                changed.push(entry);
            }
        }
        changed
    }

    fn remove(&mut self, entry: &Entry) {
        self.by_address.remove(entry);
        if let Some(addresses) = self.by_resource.get_mut(&entry.resource) {
            addresses.remove(&(Arc::clone(&entry.node), entry.address));
            if addresses.is_empty() {
                self.by_resource.remove(&entry.resource);
            }
        }
    }
}

impl Index {
    pub(super) fn set_ledger(&mut self, name: &Arc<str>, ledger: Option<Arc<CiliumNode>>) {
        if self.ledgers.get(name) == ledger.as_ref() {
            return;
        }
        let readdressed = self.ledgers.get(name).map(|old| &old.addresses) != ledger.as_ref().map(|new| &new.addresses);
        self.dirty.nodes.insert(Arc::clone(name));
        self.dirty.ledgers.insert(Arc::clone(name));
        let pools = self.ledgers.get(name).into_iter().chain(&ledger).flat_map(|ledger| &ledger.pools);
        self.dirty.pools.extend(pools.map(|pool| Arc::clone(&pool.name)));
        for entry in self.ledgers.set(name, ledger) {
            self.dirty.pods.extend(self.pods.holder(&entry.resource).map(|pod| pod.pod.name.clone()));
            self.mark_claimants(entry.address);
        }
        if readdressed {
            self.mark_depending(Dependency::Nodes);
        }
    }
}
