//! The journal: all rows of this replica with one sequence of revisions, and the scopes that each node is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;

use crate::table::{Change, EncodedRow, Log, RowId};

/// The scopes of one node.
pub type Grant = Arc<BTreeSet<Scope>>;

/// What one commit changes.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows to be set, or removed.
    pub rows: BTreeMap<RowId, Option<EncodedRow>>,
    /// Nodes whose scopes are these now, or that are gone.
    pub grants: BTreeMap<Arc<str>, Option<BTreeSet<Scope>>>,
}

/// What came of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The newest revision.
    pub revision: u64,
    /// Rows of pods (tables ENDPOINT and PEER) that are other than before, with their revisions.
    pub pods: Vec<(RowId, u64)>,
}

/// Rows, revisions, scopes.
#[derive(Debug)]
pub struct Journal {
    epoch: [u8; 16],
    rows: Log<RowId, EncodedRow>,
    hashes: HashMap<Scope, u64>,
    grants: HashMap<Arc<str>, Grant>,
    barrier: u64,
}

impl Journal {
    /// An empty journal. `epoch` names it and must be random; it keeps up to `tombstones` removed keys.
    #[must_use]
    pub fn new(epoch: [u8; 16], tombstones: usize) -> Self {
        let (hashes, grants) = (HashMap::new(), HashMap::new());
        Self { epoch, rows: Log::new(tombstones), hashes, grants, barrier: 0 }
    }

    /// Applies a batch; rows that are equal to what is there change nothing.
    pub fn commit(&mut self, batch: Batch) -> Committed {
        let mut pods = Vec::new();
        for (id, row) in batch.rows {
            let scope = id.scope.clone();
            let (old, new) = match row {
                Some(row) => {
                    let hash = row.hash;
                    let pod = matches!(id.table, Table::Endpoint | Table::Peer).then(|| id.clone());
                    let Some(old) = self.rows.upsert(id, row) else { continue };
                    pods.extend(pod.map(|id| (id, self.rows.revision())));
                    (old.map_or(0, |old| old.hash), hash)
                }
                None => match self.rows.remove(&id) {
                    Some(old) => (old.hash, 0),
                    None => continue,
                },
            };
            let hash = self.hashes.remove(&scope).unwrap_or(0) ^ old ^ new;
            if hash != 0 {
                self.hashes.insert(scope, hash);
            }
        }
        for (node, scopes) in batch.grants {
            if self.grants.get(&node).map(|grant| &**grant) == scopes.as_ref() {
                continue;
            }
            // Sessions compare what they have given with this, so a revision is all that has to tell them.
            self.rows.bump();
            match scopes {
                Some(scopes) => drop(self.grants.insert(node, Arc::new(scopes))),
                None => drop(self.grants.remove(&node)),
            }
        }
        Committed { revision: self.rows.revision(), pods }
    }

    /// Its name.
    #[must_use]
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.rows.revision()
    }

    /// The oldest revision from which differences can be told.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        self.rows.horizon()
    }

    /// Every session shall come to at least this revision, be it with an empty delta: something waits for its ack.
    #[must_use]
    pub fn barrier(&self) -> u64 {
        self.barrier
    }

    /// Raises [`Journal::barrier`]; tells whether that changed it.
    pub fn raise_barrier(&mut self, revision: u64) -> bool {
        let raised = revision > self.barrier;
        self.barrier = self.barrier.max(revision);
        raised
    }

    /// The scopes of a node; `None` when there is no such node.
    #[must_use]
    pub fn grant(&self, node: &str) -> Option<&Grant> {
        self.grants.get(node)
    }

    /// XOR of the content hashes of a scope's rows.
    #[must_use]
    pub fn scope_hash(&self, scope: &Scope) -> u64 {
        self.hashes.get(scope).copied().unwrap_or(0)
    }

    /// The rows of a scope, with their revisions.
    pub fn rows_of<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (&'a RowId, u64, &'a EncodedRow)> {
        let first = RowId::new(scope.clone(), Table::Unspecified, "");
        self.rows.range(first..).take_while(move |(id, ..)| id.scope == *scope)
    }

    /// All rows, sorted.
    pub fn rows(&self) -> impl Iterator<Item = (&RowId, u64, &EncodedRow)> {
        self.rows.range(..)
    }

    /// What changed after `revision`; see [`Log::changes_since`].
    pub fn changes_since(&self, revision: u64) -> impl Iterator<Item = (u64, Change<'_, RowId, EncodedRow>)> {
        self.rows.changes_since(revision)
    }

    /// Rows and tombstones kept.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.tombstones())
    }
}
