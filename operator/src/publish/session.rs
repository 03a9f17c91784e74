//! A node's session: a cursor into the journal, as a state machine without any transport.
//!
//! A session never queues what happens. It remembers up to which revision the node was told everything, and makes one delta of
//! whatever lies between that and now when it is asked. Resuming climbs down a ladder: differences from the node's cursor in the
//! same epoch; else, scope by scope, nothing where the hashes agree; else the buckets that differ, or the whole scope.

mod chunk;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axoneme_proto::buckets::bucket;
use axoneme_proto::nodesync::{Buckets, Cursor, Delta, HeldScope, Hello, RowKey, Table, Welcome};
use axoneme_proto::{PROTOCOL, PROTOCOL_BUCKETS, Scope};

use self::chunk::{Chunks, Upsert};
use super::journal::{Grant, Journal};
use crate::object::Versions;
use crate::table::{Change, RowId};

/// Deltas that are sent and not acknowledged may have this many bytes before the session waits.
const WINDOW: usize = 4 << 20;

/// Why a node is not served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// Another name than that of the certificate.
    #[error("Hello names node {0:?}, the certificate another one")]
    OtherNode(String),
    /// There is no Node of this name (yet).
    #[error("node {0:?} does not exist in the API")]
    UnknownNode(Arc<str>),
    /// It is behind what is remembered of removals: with hashes of what it holds it can be told what differs.
    #[error("behind revision {0}, from which on differences are known: say Hello anew")]
    Behind(u64),
    /// No protocol version in common.
    #[error("speaks protocol {min} to {max}, this operator {} to {}", PROTOCOL.start(), PROTOCOL.end())]
    Protocol {
        /// The oldest version of the node.
        min: u32,
        /// The newest one.
        max: u32,
    },
}

/// The rung of the ladder on which a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// By differences from its cursor.
    Deltas,
    /// This many scopes were held as they should be or but for some buckets, the others are sent whole.
    Scopes(usize),
    /// All scopes are sent whole.
    Snapshot,
}

/// The buckets of a scope that are sent whole.
#[derive(Debug)]
struct Partial {
    /// Into how many the scope is divided.
    count: u32,
    /// Which of them differ.
    numbers: BTreeSet<u32>,
}

impl Partial {
    fn contains(&self, id: &RowId) -> bool {
        self.numbers.contains(&bucket(id.table.into(), &id.key, self.count))
    }
}

/// One node's session.
#[derive(Debug)]
pub struct SessionState {
    node: Arc<str>,
    /// The node's cursor once it has everything that was sent.
    cursor: u64,
    /// Up to here the journal was read for `held` scopes; differs from the cursor only while the first delta is due.
    read: u64,
    /// Scopes that the node has as the journal had them at `read`, but for the buckets in `partial`. The grant itself, once
    /// that was given.
    held: Grant,
    /// Of some of `held`, the buckets that the first delta brings.
    partial: BTreeMap<Scope, Partial>,
    /// Scopes that the node has, in whatever state.
    present: Grant,
    /// Texts that it calls scopes and that are none, to be dropped.
    nonsense: Vec<String>,
    /// The node waits for a first delta, be it empty: until then its cursor means nothing.
    first: bool,
    chunks: Option<Chunks>,
    /// Deltas not yet acknowledged: to which revision, how many bytes.
    sent: VecDeque<(u64, usize)>,
    /// What the node was told that its rows are made of.
    told: Versions,
}

impl SessionState {
    /// Answers a Hello. `node` is whom the certificate names.
    ///
    /// # Errors
    /// When the node cannot be served; see [`Refused`].
    pub fn open(journal: &Journal, node: &Arc<str>, hello: &Hello) -> Result<(Self, Welcome, Rung), Refused> {
        if hello.node != **node {
            return Err(Refused::OtherNode(hello.node.clone()));
        }
        let (min, max) = (hello.protocol_min, hello.protocol_max);
        let protocol = max.min(*PROTOCOL.end());
        if protocol < min.max(*PROTOCOL.start()) {
            return Err(Refused::Protocol { min, max });
        }
        let grant = journal.grant(node).ok_or_else(|| Refused::UnknownNode(Arc::clone(node)))?;
        let resumable = |cursor: &&Cursor| {
            *cursor.epoch == journal.epoch() && (journal.horizon()..=journal.revision()).contains(&cursor.revision)
        };
        let cursor = hello.cursor.as_ref().filter(resumable).map(|cursor| cursor.revision);
        let (mut held, mut present, mut nonsense) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut partial = BTreeMap::new();
        for claimed in &hello.scopes {
            let Ok(scope) = claimed.scope.parse::<Scope>() else {
                nonsense.push(claimed.scope.clone());
                continue;
            };
            if cursor.is_some() {
                held.insert(scope.clone());
            } else if grant.contains(&scope) {
                if journal.scope_hash(&scope) == claimed.hash {
                    held.insert(scope.clone());
                } else if let Some(some) = differing(journal, &scope, claimed).filter(|_| protocol >= PROTOCOL_BUCKETS)
                {
                    held.insert(scope.clone());
                    partial.insert(scope.clone(), some);
                }
            }
            present.insert(scope);
        }
        let rung = match (cursor, held.len()) {
            (Some(_), _) => Rung::Deltas,
            (None, 0) => Rung::Snapshot,
            (None, held) => Rung::Scopes(held),
        };
        let welcome =
            Welcome { protocol, epoch: journal.epoch().to_vec(), resumed: cursor.is_some(), operators: Vec::new() };
        let session = Self {
            node: Arc::clone(node),
            cursor: cursor.unwrap_or(0),
            read: cursor.unwrap_or_else(|| journal.revision()),
            held: Arc::new(held),
            partial,
            present: Arc::new(present),
            nonsense,
            first: cursor.is_none(),
            chunks: None,
            sent: VecDeque::new(),
            told: Versions::default(),
        };
        Ok((session, welcome, rung))
    }

    /// The node's cursor once it has committed all that was sent.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Up to which revision the node was sent everything that it needs, once no chunk is left.
    #[must_use]
    pub fn sent_up_to(&self) -> u64 {
        if self.first { 0 } else { self.read }
    }

    /// The node has committed everything up to `received`.
    pub fn acked(&mut self, received: u64) {
        while self.sent.front().is_some_and(|(revision, _)| *revision <= received) {
            self.sent.pop_front();
        }
    }

    /// The next chunk to be sent, if there is news and the node's window is open.
    ///
    /// # Errors
    /// When the Node is gone, or was too slow: the session ends, and the node keeps what it has.
    pub fn next(&mut self, journal: &Journal) -> Result<Option<Delta>, Refused> {
        if self.chunks.is_none() && self.sent.iter().map(|(_, bytes)| bytes).sum::<usize>() < WINDOW {
            self.prepare(journal)?;
        }
        let chunk = self.chunks.as_mut().and_then(Iterator::next);
        if chunk.as_ref().is_none_or(|chunk| chunk.last) {
            self.chunks = None;
        }
        Ok(chunk)
    }

    /// Whether a delta was begun, or is due, and was not given back to its end.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.first || self.chunks.is_some()
    }

    /// Makes one delta, in chunks, of everything between what the node has and the newest revision.
    fn prepare(&mut self, journal: &Journal) -> Result<(), Refused> {
        let to = journal.revision();
        if to == self.read && !self.first && journal.barrier() <= self.cursor {
            return Ok(());
        }
        let grant = journal.grant(&self.node).ok_or_else(|| Refused::UnknownNode(Arc::clone(&self.node)))?;
        if self.read < journal.horizon() {
            if !self.first {
                return Err(Refused::Behind(journal.horizon()));
            }
            // It waits for the answer to a Hello: another one would not bring it further.
            self.held = Grant::default();
            self.partial.clear();
        }
        // Most often nothing has changed for this node, and a grant can have thousands of scopes.
        let (mut added, mut dropped) = (Vec::new(), std::mem::take(&mut self.nonsense));
        if !Arc::ptr_eq(&self.held, grant) {
            added.extend(grant.difference(&self.held));
        }
        if !Arc::ptr_eq(&self.present, grant) {
            dropped.extend(self.present.difference(grant).map(ToString::to_string));
        }
        let mut upserts: Vec<Upsert> = Vec::new();
        let mut removals: Vec<RowKey> = Vec::new();
        let mut barrier = journal.barrier() > self.cursor;
        for (revision, change) in journal.changes_since(self.read) {
            let (Change::Upsert(id, _) | Change::Removal(id)) = change;
            if !self.tells(grant, id) {
                continue;
            }
            barrier |= id.table == Table::Peer;
            match change {
                Change::Upsert(_, row) => upserts.push(Upsert { revision, encoded: row.encoded() }),
                Change::Removal(id) => removals.push(id.to_key()),
            }
        }
        for scope in &added {
            upserts.extend(journal.rows_of(scope).map(|(id, revision, row)| {
                barrier |= id.table == Table::Peer;
                Upsert { revision, encoded: row.encoded() }
            }));
        }
        let mut buckets = Vec::new();
        for (scope, partial) in std::mem::take(&mut self.partial) {
            if !grant.contains(&scope) {
                continue;
            }
            let rows = journal.rows_of(&scope).filter(|(id, ..)| partial.contains(id));
            upserts.extend(rows.map(|(id, revision, row)| {
                barrier |= id.table == Table::Peer;
                Upsert { revision, encoded: row.encoded() }
            }));
            let numbers = partial.numbers.into_iter().collect();
            buckets.push(Buckets { scope: scope.to_string(), count: partial.count, numbers });
        }
        self.read = to;
        let news = [upserts.is_empty(), removals.is_empty(), added.is_empty(), dropped.is_empty(), buckets.is_empty()];
        if news.iter().any(|empty| !empty) || self.first || journal.barrier() > self.cursor {
            let head = Delta {
                from_revision: self.cursor,
                to_revision: to,
                snapshots: added.iter().map(ToString::to_string).collect(),
                inputs_complete: true,
                ack_at_once: barrier,
                buckets,
                inputs: journal.inputs().since(&self.told),
                ..Delta::default()
            };
            self.told = *journal.inputs();
            let (chunks, bytes) = Chunks::new(head, upserts, removals, dropped);
            self.chunks = Some(chunks);
            self.sent.push_back((to, bytes));
            self.cursor = to;
            self.first = false;
        }
        self.held = Arc::clone(grant);
        self.present = Arc::clone(grant);
        Ok(())
    }

    /// Whether changes of a row are told one by one: the node has its scope and keeps it, and its bucket is not sent whole.
    fn tells(&self, grant: &BTreeSet<Scope>, id: &RowId) -> bool {
        self.held.contains(&id.scope)
            && grant.contains(&id.scope)
            && self.partial.get(&id.scope).is_none_or(|partial| !partial.contains(id))
    }
}

/// The buckets in which a node's rows of a scope are not the journal's; `None` if they cannot be compared, or if all differ.
fn differing(journal: &Journal, scope: &Scope, claimed: &HeldScope) -> Option<Partial> {
    let count = u32::try_from(claimed.buckets.len()).ok()?;
    let hashes = journal.bucket_hashes(scope, count)?;
    let pairs = (0..).zip(hashes.iter().zip(&claimed.buckets));
    let numbers: BTreeSet<u32> = pairs.filter(|(_, (one, other))| one != other).map(|(number, _)| number).collect();
    (numbers.len() < claimed.buckets.len()).then_some(Partial { count, numbers })
}
