//! The journal: all rows of this replica with one sequence of revisions, and the scopes that each node is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;

use super::digest::Digests;
use crate::object::Versions;
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
    /// What the rows are made of now.
    pub inputs: Versions,
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
    digests: Digests,
    grants: HashMap<Arc<str>, Grant>,
    barrier: u64,
    inputs: Versions,
}

impl Journal {
    /// An empty journal. `epoch` names it and must be random; it keeps up to `tombstones` removed keys.
    #[must_use]
    pub fn new(epoch: [u8; 16], tombstones: usize) -> Self {
        let (digests, grants) = (Digests::default(), HashMap::new());
        Self { epoch, rows: Log::new(tombstones), digests, grants, barrier: 0, inputs: Versions::default() }
    }

    /// Applies a batch; rows that are equal to what is there change nothing.
    pub fn commit(&mut self, batch: Batch) -> Committed {
        let mut pods = Vec::new();
        for (id, row) in batch.rows {
            let hash = row.as_ref().map(|row| row.hash);
            let pod = row.is_some() && matches!(id.table, Table::Endpoint | Table::Peer);
            let old = match row {
                Some(row) => match self.rows.upsert(id.clone(), row) {
                    Some(old) => old,
                    None => continue,
                },
                None => match self.rows.remove(&id) {
                    Some(old) => Some(old),
                    None => continue,
                },
            };
            if self.digests.change(&id, old.map(|old| old.hash), hash) {
                let rows = rows_of(&self.rows, &id.scope);
                self.digests.became_large(&id.scope, rows.map(|(id, _, row)| (id, row.hash)));
            }
            if pod {
                pods.push((id, self.rows.revision()));
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
        self.inputs = batch.inputs;
        Committed { revision: self.rows.revision(), pods }
    }

    /// What the rows are made of.
    #[must_use]
    pub fn inputs(&self) -> &Versions {
        &self.inputs
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

    /// The revision in which a row came to be as it is; none: there is no such row.
    #[must_use]
    pub fn revision_of(&self, row: &RowId) -> Option<u64> {
        self.rows.get(row).map(|(revision, _)| revision)
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
        self.digests.hash(scope)
    }

    /// The same of each of a scope's buckets, divided into `count`; `None` if it cannot be.
    #[must_use]
    pub fn bucket_hashes(&self, scope: &Scope, count: u32) -> Option<Vec<u64>> {
        let rows = || self.rows_of(scope).map(|(id, _, row)| (id, row.hash));
        self.digests.buckets(scope, count, rows)
    }

    /// The rows of a scope, with their revisions.
    pub fn rows_of<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = (&'a RowId, u64, &'a EncodedRow)> {
        rows_of(&self.rows, scope)
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

fn rows_of<'a>(
    rows: &'a Log<RowId, EncodedRow>,
    scope: &'a Scope,
) -> impl Iterator<Item = (&'a RowId, u64, &'a EncodedRow)> {
    let first = RowId::new(scope.clone(), Table::Unspecified, "");
    rows.range(first..).take_while(move |(id, ..)| id.scope == *scope)
}
