//! What may be used again: addresses and identity numbers whose removal every node has applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::demands::{Release, Unmet, UnmetReason};
use crate::index::{Entry, Index};
use crate::object::{CiliumIdentity, Kind, ObjectKey};
use crate::publish::acks::Acks;

/// Since when something is out of use.
#[derive(Clone, Copy, Debug)]
struct Idle {
    /// At this revision no row shows it any more.
    revision: u64,
    since: Instant,
}

/// Everything that is out of use and not given back yet.
#[derive(Debug, Default)]
pub struct Releases {
    entries: BTreeMap<Entry, Idle>,
    identities: BTreeMap<u32, Idle>,
    /// Ledgers whose Node is gone.
    orphans: BTreeMap<Arc<str>, Idle>,
}

/// What may be given back now, and what still waits.
#[derive(Debug, Default, PartialEq)]
pub struct Released {
    /// Ledger entries by node, longest free first.
    pub entries: BTreeMap<Arc<str>, Vec<Release>>,
    /// Identity objects.
    pub identities: Vec<Arc<CiliumIdentity>>,
    /// Ledgers whose Node is gone, and whose CIDRs no node takes for that one's any more.
    pub ledgers: BTreeSet<Arc<str>>,
    /// What waits, and for whom.
    pub unmet: Vec<Unmet>,
}

impl Releases {
    /// The newest revision for which an ack is awaited.
    #[must_use]
    pub fn barrier(&self) -> u64 {
        let idle = self.entries.values().chain(self.identities.values()).chain(self.orphans.values());
        idle.map(|idle| idle.revision).max().unwrap_or(0)
    }

    /// A node's unowned entries are these, as of `revision`.
    pub fn set_entries<'a>(
        &mut self,
        node: &Arc<str>,
        unowned: impl Iterator<Item = &'a Entry> + Clone,
        revision: u64,
        now: Instant,
    ) {
        self.entries.retain(|entry, _| entry.node != *node || unowned.clone().any(|still| still == entry));
        for entry in unowned {
            self.entries.entry(entry.clone()).or_insert(Idle { revision, since: now });
        }
    }

    /// An identity is in use, or it exists and is not, as of `revision`.
    pub fn set_identity(&mut self, identity: u32, idle: bool, revision: u64, now: Instant) {
        if idle {
            self.identities.entry(identity).or_insert(Idle { revision, since: now });
        } else {
            self.identities.remove(&identity);
        }
    }

    /// A node's ledger has no Node, or has one, as of `revision`.
    pub fn set_orphan(&mut self, node: &Arc<str>, orphan: bool, revision: u64, now: Instant) {
        if orphan {
            self.orphans.entry(Arc::clone(node)).or_insert(Idle { revision, since: now });
        } else {
            self.orphans.remove(node);
        }
    }

    /// What may be given back. Identities rest for `grace` first: a deployment that is scaled to zero and back keeps its number.
    #[must_use]
    pub fn evaluate(&self, index: &Index, acks: &Acks, grace: Duration, now: Instant) -> Released {
        let mut released = Released::default();
        let mut blocking: BTreeMap<(u64, Instant), Vec<Arc<str>>> = BTreeMap::new();
        let mut blocking = |idle: &Idle| -> Vec<Arc<str>> {
            blocking
                .entry((idle.revision, idle.since))
                .or_insert_with(|| acks.blocking(idle.revision, idle.since, now))
                .clone()
        };
        let mut free: Vec<(&Entry, &Idle)> = Vec::new();
        for (entry, idle) in &self.entries {
            let object = || ObjectKey::cluster(Kind::CiliumNode, &entry.node);
            let detached = index.node(&entry.node).is_none() || index.is_detached(&entry.node, &entry.resource);
            let superseded = index.holder(&entry.resource).is_some_and(|pod| {
                index.attachment_of(pod).is_some_and(|attached| !attached.addresses.contains(&entry.address))
            });
            if !detached && !superseded {
                released.unmet.push(Unmet { object: object(), reason: UnmetReason::Attached(Arc::clone(&entry.node)) });
                continue;
            }
            let nodes = blocking(idle);
            if nodes.is_empty() {
                free.push((entry, idle));
            } else {
                released.unmet.push(Unmet { object: object(), reason: not_forgotten(nodes) });
            }
        }
        free.sort_by_key(|(entry, idle)| (idle.since, *entry));
        for (entry, _) in free {
            let release = Release { address: entry.address, resource: Arc::clone(&entry.resource) };
            released.entries.entry(Arc::clone(&entry.node)).or_default().push(release);
        }
        for (id, idle) in &self.identities {
            let rested = now.saturating_duration_since(idle.since) >= grace;
            let Some(object) = index.identity(*id).filter(|_| rested && !index.is_enforced(*id)) else { continue };
            let nodes = blocking(idle);
            if nodes.is_empty() {
                released.identities.push(Arc::clone(object));
            } else {
                let object = ObjectKey::cluster(Kind::CiliumIdentity, &Arc::from(id.to_string()));
                released.unmet.push(Unmet { object, reason: not_forgotten(nodes) });
            }
        }
        for (node, idle) in &self.orphans {
            let nodes = blocking(idle);
            if nodes.is_empty() {
                released.ledgers.insert(Arc::clone(node));
            } else {
                let object = ObjectKey::cluster(Kind::CiliumNode, node);
                released.unmet.push(Unmet { object, reason: not_forgotten(nodes) });
            }
        }
        released.unmet.sort();
        released.unmet.dedup();
        released
    }

    /// Takes out of an older evaluation what is in use again.
    pub fn withdraw(&self, released: &mut Released) {
        for (node, entries) in &mut released.entries {
            let entry =
                |r: &Release| Entry { address: r.address, resource: Arc::clone(&r.resource), node: Arc::clone(node) };
            entries.retain(|release| self.entries.contains_key(&entry(release)));
        }
        released.entries.retain(|_, entries| !entries.is_empty());
        released.identities.retain(|object| self.identities.contains_key(&object.id));
        released.ledgers.retain(|node| self.orphans.contains_key(node));
    }

    /// Whether a node's ledger may be given back, with every entry in it.
    #[must_use]
    pub fn all_released(released: &Released, node: &str, entries: usize) -> bool {
        released.ledgers.contains(node) && released.entries.get(node).map_or(0, Vec::len) == entries
    }
}

fn not_forgotten(mut nodes: Vec<Arc<str>>) -> UnmetReason {
    nodes.truncate(3);
    UnmetReason::NotForgotten { nodes }
}
