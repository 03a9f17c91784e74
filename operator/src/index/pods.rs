//! Pods, by everything that they are looked up by.

mod change_over;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::identities::{LabelSet, SetId};
use super::{Attachment, Entry, Index};
use crate::config::IpamMode;
use crate::object::{Name, Pod};

/// A pod and what is known of it.
#[derive(Debug)]
pub struct PodEntry {
    /// The object.
    pub pod: Arc<Pod>,
    /// Its label set, while it has a network of its own and its namespace is known.
    pub set: Option<SetId>,
    /// The label set that takes the place of that one as soon as it has a number: see `Index::change_over`.
    pub next: Option<SetId>,
}

/// All pods.
#[derive(Debug, Default)]
pub struct Pods {
    pods: BTreeMap<Name, PodEntry>,
    by_node: HashMap<Arc<str>, BTreeSet<Name>>,
    by_key: HashMap<Arc<str>, BTreeSet<Name>>,
    /// By namespace: pods with a next label set.
    changing: HashMap<Arc<str>, BTreeSet<Name>>,
}

impl Pods {
    /// A pod by name.
    pub fn get(&self, name: &Name) -> Option<&PodEntry> {
        self.pods.get(name)
    }

    /// Pods bound to a node, sorted.
    pub fn on_node(&self, node: &str) -> impl Iterator<Item = &PodEntry> {
        self.by_node.get(node).into_iter().flatten().filter_map(|name| self.pods.get(name))
    }

    /// Pods of a namespace, or (empty) of all, sorted.
    pub fn in_namespace(&self, namespace: &Arc<str>) -> impl Iterator<Item = &PodEntry> {
        let first = Name { namespace: Arc::clone(namespace), name: Arc::from("") };
        let of = Arc::clone(namespace);
        self.pods
            .range(first..)
            .take_while(move |(name, _)| of.is_empty() || name.namespace == of)
            .map(|(_, entry)| entry)
    }

    /// The pod that an endpoint key stands for. Where several claim the same one (a mirror annotation can say anything), it is
    /// the pod whose UID it is, else the first by name.
    pub fn holder(&self, key: &str) -> Option<&PodEntry> {
        let candidates = || self.by_key.get(key).into_iter().flatten().filter_map(|name| self.pods.get(name));
        candidates().find(|entry| *entry.pod.uid == *key).or_else(|| candidates().next())
    }

    fn rivals(&self, key: &str) -> impl Iterator<Item = &Name> {
        self.by_key.get(key).into_iter().flatten()
    }

    fn set(&mut self, name: &Name, pod: Option<Arc<Pod>>) -> Option<PodEntry> {
        let old = self.pods.remove(name);
        if let Some(old) = &old {
            remove(&mut self.by_key, old.pod.endpoint_key(), name);
            if let Some(node) = &old.pod.node {
                remove(&mut self.by_node, node, name);
            }
        }
        if let Some(pod) = pod {
            self.by_key.entry(Arc::clone(pod.endpoint_key())).or_default().insert(name.clone());
            if let Some(node) = &pod.node {
                self.by_node.entry(Arc::clone(node)).or_default().insert(name.clone());
            }
            self.pods.insert(name.clone(), PodEntry { pod, set: None, next: None });
        }
        old
    }
}

fn remove(map: &mut HashMap<Arc<str>, BTreeSet<Name>>, key: &Arc<str>, name: &Name) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

impl Index {
    pub(super) fn set_pod(&mut self, name: &Name, pod: Option<Arc<Pod>>) {
        let old = self.pods.get(name);
        if old.map(|old| &old.pod) == pod.as_ref() {
            return;
        }
        let keys: BTreeSet<Arc<str>> =
            old.map(|old| &old.pod).into_iter().chain(&pod).map(|pod| Arc::clone(pod.endpoint_key())).collect();
        let same_ports = matches!((old, &pod), (Some(old), Some(new)) if old.pod.ports == new.ports);
        self.mark_pod(name);
        if pod.is_none() {
            self.forsake_next(name);
        }
        if !same_ports {
            // Counted by the ports that the set was told, so it has to forget them first.
            self.leave_set(name);
        }
        let old = self.pods.set(name, pod);
        let node = |pod: Option<&PodEntry>| pod.and_then(|entry| entry.pod.node.clone());
        let (left, entered) = (node(old.as_ref()), node(self.pods.get(name)));
        if left != entered {
            self.dirty.scopes.extend(left.into_iter().chain(entered));
        }
        if let (Some(old), Some(new)) = (old, self.pods.pods.get_mut(name)) {
            new.set = old.set;
            new.next = old.next;
        }
        self.refresh_pod(name);
        // It may have been what others waited for.
        self.change_over(&name.namespace);
        let rivals: Vec<Name> =
            keys.iter().flat_map(|key| self.pods.rivals(key)).filter(|r| *r != name).cloned().collect();
        for rival in &rivals {
            self.refresh_pod(rival);
        }
    }

    /// Everything that shows this pod compiles again.
    pub(super) fn mark_pod(&mut self, name: &Name) {
        self.dirty.pods.insert(name.clone());
        let Some(entry) = self.pods.get(name) else { return };
        let Some(node) = &entry.pod.node else { return };
        self.dirty.ledgers.insert(Arc::clone(node));
        self.dirty.namespaces.insert((Arc::clone(node), Arc::clone(&name.namespace)));
        // Where an address is given twice, who of the two shows it depends on both.
        let addresses: Vec<IpAddr> = self.ledgers.addresses(node, entry.pod.endpoint_key()).collect();
        for address in addresses {
            self.mark_claimants(address);
        }
    }

    /// All pods to which an address is given.
    pub(super) fn mark_claimants(&mut self, address: IpAddr) {
        for claim in self.ledgers.claims(address) {
            self.dirty.pods.extend(self.pods.holder(&claim.resource).map(|pod| pod.pod.name.clone()));
            self.dirty.ledgers.insert(Arc::clone(&claim.node));
        }
    }
}

/// What the compile stage reads.
impl Index {
    /// A pod by name.
    #[must_use]
    pub fn pod(&self, name: &Name) -> Option<&PodEntry> {
        self.pods.get(name)
    }

    /// Pods bound to a node, sorted by name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &PodEntry> {
        self.pods.on_node(node)
    }

    /// The pod that an endpoint key stands for.
    #[must_use]
    pub fn holder(&self, endpoint: &str) -> Option<&PodEntry> {
        self.pods.holder(endpoint)
    }

    /// Whether some pod keeps its identity until its new labels have a number.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        !self.pods.changing.is_empty()
    }

    /// A pod's label set.
    #[must_use]
    pub fn set_of(&self, pod: &PodEntry) -> Option<&LabelSet> {
        self.sets.get(pod.set?)
    }

    /// A pod's identity.
    #[must_use]
    pub fn identity_of(&self, pod: &PodEntry) -> Option<u32> {
        self.set_of(pod).and_then(LabelSet::identity)
    }

    /// The pod that has an address.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<&PodEntry> {
        if self.config.ipam == IpamMode::DelegatedPlugin {
            return self.pods.pods.values().find(|pod| self.addresses_of(pod).contains(&address));
        }
        self.claimant(self.shown_claim(address)?)
    }

    /// A pod's addresses: those that its node's ledger gives to it, except those that are shown by another pod; where another
    /// plugin gives addresses, those that it was attached with.
    #[must_use]
    pub fn addresses_of(&self, pod: &PodEntry) -> Vec<IpAddr> {
        let Some(node) = pod.pod.node.as_ref().filter(|_| pod.set.is_some()) else { return Vec::new() };
        if self.config.ipam == IpamMode::DelegatedPlugin {
            return self.delegated_addresses(node, pod);
        }
        let key = pod.pod.endpoint_key();
        let mine = |claim: &Entry| claim.node == *node && claim.resource == *key;
        let addresses = self.ledgers.addresses(node, key);
        addresses.filter(|address| self.shown_claim(*address).is_some_and(mine)).collect()
    }

    /// The node knows what another plugin has given. Until it has said anything, the kubelet's word counts.
    fn delegated_addresses(&self, node: &str, pod: &PodEntry) -> Vec<IpAddr> {
        let families = self.config.families;
        let addresses = match self.attachment_of(pod) {
            Some(attachment) if !attachment.addresses.is_empty() => &*attachment.addresses,
            _ if self.is_detached(node, pod.pod.endpoint_key()) => &[],
            _ => &*pod.pod.ips,
        };
        let enabled = |address: &&IpAddr| if address.is_ipv6() { families.v6 } else { families.v4 };
        addresses.iter().filter(enabled).copied().collect()
    }

    /// Whether these are all the addresses of a pod that it shall have. One that runs may have fewer: it was attached before a
    /// family was enabled, and keeps what it has.
    #[must_use]
    pub fn is_addressed(&self, pod: &PodEntry, addresses: &[IpAddr]) -> bool {
        let has = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6);
        let families = self.config.families;
        let all = (has(false) || !families.v4) && (has(true) || !families.v6);
        !addresses.is_empty() && (all || self.is_started(pod))
    }

    /// Whether a pod was attached already, as far as its node or the kubelet have said.
    #[must_use]
    pub fn is_started(&self, pod: &PodEntry) -> bool {
        !pod.pod.ips.is_empty() || self.attachment_of(pod).is_some()
    }

    /// Of all claims to an address the one that counts: the first whose pod is live on the ledger's node.
    #[must_use]
    pub fn shown_claim(&self, address: IpAddr) -> Option<&Entry> {
        self.ledgers.claims(address).find(|claim| self.claimant(claim).is_some())
    }

    /// The live pod for which a ledger entry stands. Where the pod was attached with another address of the ledger (its node
    /// chose one while no operator answered), that one stands and this one does not.
    #[must_use]
    pub fn claimant(&self, claim: &Entry) -> Option<&PodEntry> {
        let pod = self.pods.holder(&claim.resource)?;
        if pod.set.is_none() || pod.pod.node.as_ref() != Some(&claim.node) {
            return None;
        }
        let attached = self.attachment_of(pod).map(|attachment| &*attachment.addresses).unwrap_or_default();
        let other = |address: &IpAddr| {
            address.is_ipv4() == claim.address.is_ipv4() && self.is_given(&claim.node, *address, &claim.resource)
        };
        let superseded = !attached.contains(&claim.address) && attached.iter().any(other);
        (!superseded).then_some(pod)
    }

    /// Addresses that `node`'s ledger gives to `resource`, whoever shows them.
    pub fn given(&self, node: &str, resource: &str) -> impl Iterator<Item = IpAddr> {
        self.ledgers.addresses(node, resource)
    }

    /// Whether `node`'s ledger gives `address` to `resource`.
    #[must_use]
    pub fn is_given(&self, node: &str, address: IpAddr, resource: &str) -> bool {
        let entry = self.ledgers.get(node).and_then(|ledger| ledger.pool.get(&address));
        entry.is_some_and(|entry| *entry.resource == *resource)
    }

    /// A pod's attachment on its node.
    #[must_use]
    pub fn attachment_of(&self, pod: &PodEntry) -> Option<&Attachment> {
        self.attachments.get(pod.pod.node.as_ref()?, pod.pod.endpoint_key())
    }

    /// All attachments of a node, sorted by endpoint key.
    pub fn attachments_on(&self, node: &str) -> impl Iterator<Item = (&Arc<str>, &Attachment)> {
        self.attachments.on(node)
    }

    /// Whether an endpoint is known not to be attached on a node.
    #[must_use]
    pub fn is_detached(&self, node: &str, endpoint: &str) -> bool {
        self.attachments.is_detached(node, endpoint)
    }
}
