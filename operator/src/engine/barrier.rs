//! The barrier of law 5: a pod's peers know of it before it sends its first packet.
//!
//! When a pod's row in `peers/<identity>` is published, the nodes that are given that scope at that moment have to apply it; later
//! ones get it with the scope. Once they have, or were silent for too long, the pod's node is told. A change costs as much as
//! there are nodes that care.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axoneme_proto::Scope;
use axoneme_proto::nodesync::ToldPod;

use crate::index::Index;
use crate::publish::acks::Acks;
use crate::table::RowId;

/// A node that says nothing for so long is not waited for.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Nor is one that says something all the time, and still does not get there (a map is full).
pub const HOPELESS: Duration = Duration::from_secs(5);

/// What a pod's node is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// As the protocol says it.
    pub pod: ToldPod,
    /// Not before the node was sent everything up to this revision.
    pub due: u64,
}

/// What has happened since it was asked last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// To which node, and what.
    pub told: Vec<(Arc<str>, Telling)>,
    /// Barriers that began.
    pub opened: u64,
    /// How long each of those took that ended.
    pub passed: Vec<Duration>,
    /// Nodes that applied what a barrier waited for.
    pub acked: u64,
    /// Nodes that were not waited for any longer.
    pub skipped: u64,
}

/// Where a pod's rows are, as of the newest commit.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its endpoint key.
    pub key: Arc<str>,
    /// Its node and the revision of its endpoint row, if that row has changed.
    pub endpoint: Option<(Arc<str>, u64)>,
    /// The identity of its peers row and that row's revision, if that row has changed.
    pub peers: Option<(u32, u64)>,
    /// It was attached already: nobody waits for it.
    pub started: bool,
}

/// The pods whose rows were changed by a commit, from those rows.
#[must_use]
pub fn published(index: &Index, rows: &[(RowId, u64)]) -> Vec<Published> {
    let mut pods: BTreeMap<&Arc<str>, Published> = BTreeMap::new();
    for (id, revision) in rows {
        let Some(pod) = index.holder(&id.key) else { continue };
        let Some(node) = &pod.pod.node else { continue };
        let started = index.is_started(pod);
        let published = pods.entry(&id.key);
        let key = Arc::clone(&id.key);
        let published = published.or_insert_with(|| Published { key, endpoint: None, peers: None, started });
        match id.scope {
            Scope::Peers(identity) => published.peers = Some((identity, *revision)),
            _ => published.endpoint = Some((Arc::clone(node), *revision)),
        }
    }
    pods.into_values().collect()
}

#[derive(Debug)]
struct Pod {
    node: Arc<str>,
    /// Of the endpoint row that the node will ask about; 0: any.
    revision: u64,
    /// When the node has been sent so much, it has that row.
    due: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    identity: u32,
    revision: u64,
    since: Instant,
    waits: BTreeSet<Arc<str>>,
    skipped: u32,
}

/// All pods that have an endpoint row, and who has to know of those that start.
#[derive(Debug, Default)]
pub struct Barriers {
    pods: HashMap<Arc<str>, Pod>,
    on_node: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Identities whose peers a node is given, and the reverse.
    given: HashMap<Arc<str>, BTreeSet<u32>>,
    holders: HashMap<u32, BTreeSet<Arc<str>>>,
    /// By node: what it has not applied yet, by revision, for which pod.
    waiting: BTreeMap<Arc<str>, BTreeSet<(u64, Arc<str>)>>,
    news: News,
}

impl Barriers {
    /// What has happened since the last call.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// A node is given these scopes from now on; none: it is gone. It is not asked about others any more.
    pub fn grant(&mut self, node: &Arc<str>, scopes: Option<&BTreeSet<Scope>>, now: Instant) {
        let peers = |scope: &Scope| match scope {
            Scope::Peers(identity) => Some(*identity),
            _ => None,
        };
        let new: BTreeSet<u32> = scopes.into_iter().flatten().filter_map(peers).collect();
        let old = match scopes {
            Some(_) => self.given.insert(Arc::clone(node), new.clone()).unwrap_or_default(),
            None => self.given.remove(node).unwrap_or_default(),
        };
        for identity in old.difference(&new) {
            if let Some(holders) = self.holders.get_mut(identity) {
                holders.remove(node);
                if holders.is_empty() {
                    self.holders.remove(identity);
                }
            }
        }
        for identity in new.difference(&old) {
            self.holders.entry(*identity).or_default().insert(Arc::clone(node));
        }
        let dropped = |entry: &&(u64, Arc<str>)| {
            let open = self.pods.get(&entry.1).and_then(|pod| pod.open.as_ref());
            open.is_none_or(|open| !new.contains(&open.identity))
        };
        let excused: Vec<_> = self.waiting.get(node).into_iter().flatten().filter(dropped).cloned().collect();
        for entry in excused {
            self.done(node, &entry, now);
        }
    }

    /// A pod has no endpoint row any more.
    pub fn forget(&mut self, key: &Arc<str>) {
        self.close(key);
        if let Some(pod) = self.pods.remove(key)
            && let Some(keys) = self.on_node.get_mut(&pod.node)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.on_node.remove(&pod.node);
            }
        }
    }

    /// A pod's rows were published.
    pub fn published(&mut self, pod: Published, acks: &Acks, now: Instant) {
        let Published { key, endpoint, peers, started } = pod;
        if let Some((node, revision)) = endpoint {
            if self.pods.get(&key).is_some_and(|known| known.node != node) {
                self.forget(&key);
            }
            self.on_node.entry(Arc::clone(&node)).or_default().insert(Arc::clone(&key));
            let open = self.pods.get_mut(&key).and_then(|known| known.open.take());
            self.pods.insert(Arc::clone(&key), Pod { node, revision, due: revision, open });
        }
        if let Some((identity, revision)) = peers.filter(|_| !started) {
            self.close(&key);
            self.open(&key, identity, revision, acks, now);
        }
        self.pass_if_done(&key, now);
    }

    fn open(&mut self, key: &Arc<str>, identity: u32, revision: u64, acks: &Acks, now: Instant) {
        let mut open = Open { identity, revision, since: now, waits: BTreeSet::new(), skipped: 0 };
        for holder in self.holders.get(&identity).into_iter().flatten() {
            if acks.silence(holder, None, now).is_some_and(|silence| silence < SILENCE) {
                open.waits.insert(Arc::clone(holder));
                self.waiting.entry(Arc::clone(holder)).or_default().insert((revision, Arc::clone(key)));
            } else {
                open.skipped += 1;
                self.news.skipped += 1;
            }
        }
        self.news.opened += 1;
        if let Some(pod) = self.pods.get_mut(key) {
            pod.open = Some(open);
        }
    }

    /// Ends a barrier without a word.
    fn close(&mut self, key: &Arc<str>) {
        let Some(open) = self.pods.get_mut(key).and_then(|pod| pod.open.take()) else { return };
        for node in open.waits {
            self.remove_waiting(&node, &(open.revision, Arc::clone(key)));
        }
    }

    /// A node has begun a session when `newest` was the newest revision: it is told of all its pods for which nobody is waited
    /// for.
    pub fn session(&mut self, node: &Arc<str>, newest: u64) {
        for key in self.on_node.get(node).into_iter().flatten() {
            let Some(pod) = self.pods.get_mut(key) else { continue };
            if pod.due <= newest {
                // It may hold that row from another replica, under another revision. What was published since comes with its own.
                (pod.revision, pod.due) = (0, newest);
            }
            if pod.open.is_none() {
                self.news.told.push((Arc::clone(node), telling(key, pod, 0)));
            }
        }
    }

    /// A node has said how far it is.
    pub fn acked(&mut self, node: &Arc<str>, acks: &Acks, now: Instant) {
        let applied = acks.applied_to(node);
        while let Some(entry) = self.waiting.get(node).and_then(BTreeSet::first).filter(|(at, _)| *at <= applied) {
            let entry = entry.clone();
            self.news.acked += 1;
            self.done(node, &entry, now);
        }
    }

    /// Time has passed: nodes that are silent, or do not get there, are not waited for.
    pub fn tick(&mut self, acks: &Acks, now: Instant) {
        let nodes: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for node in nodes {
            // Older revisions have waited longer.
            while let Some(entry) = self.waiting.get(&node).and_then(BTreeSet::first).cloned() {
                let Some(since) = self.since(&entry.1) else { break };
                let silence = acks.silence(&node, Some(since), now);
                let waited = now.saturating_duration_since(since);
                if silence.is_some_and(|silence| silence < SILENCE) && waited < HOPELESS {
                    break;
                }
                self.news.skipped += 1;
                if let Some(open) = self.pods.get_mut(&entry.1).and_then(|pod| pod.open.as_mut()) {
                    open.skipped += 1;
                }
                self.done(&node, &entry, now);
            }
        }
    }

    fn since(&self, key: &Arc<str>) -> Option<Instant> {
        Some(self.pods.get(key)?.open.as_ref()?.since)
    }

    /// `node` is not waited for any more.
    fn done(&mut self, node: &Arc<str>, entry: &(u64, Arc<str>), now: Instant) {
        self.remove_waiting(node, entry);
        if let Some(open) = self.pods.get_mut(&entry.1).and_then(|pod| pod.open.as_mut()) {
            open.waits.remove(node);
        }
        self.pass_if_done(&entry.1, now);
    }

    fn remove_waiting(&mut self, node: &Arc<str>, entry: &(u64, Arc<str>)) {
        if let Some(entries) = self.waiting.get_mut(node) {
            entries.remove(entry);
            if entries.is_empty() {
                self.waiting.remove(node);
            }
        }
    }

    /// Tells the pod's node, unless somebody is waited for.
    fn pass_if_done(&mut self, key: &Arc<str>, now: Instant) {
        let Some(pod) = self.pods.get_mut(key) else { return };
        let mut skipped = 0;
        if let Some(open) = &pod.open {
            if !open.waits.is_empty() {
                return;
            }
            skipped = open.skipped;
            self.news.passed.push(now.saturating_duration_since(open.since));
        }
        pod.open = None;
        self.news.told.push((Arc::clone(&pod.node), telling(key, pod, skipped)));
    }
}

fn telling(key: &str, pod: &Pod, skipped: u32) -> Telling {
    Telling { pod: ToldPod { pod_uid: key.to_owned(), revision: pod.revision, skipped }, due: pod.due }
}

#[cfg(test)]
mod tests;
