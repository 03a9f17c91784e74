//! Rows by scope, as they came: payloads stay encoded, which is their most compact form and what the checkpoint needs.

use std::collections::BTreeMap;
use std::ops::Bound;

use axoneme_proto::buckets::{self, Sums};
use axoneme_proto::nodesync::{HeldScope, RowKey};
use axoneme_proto::{Scope, Table};

/// Names a row. Ordered by scope, so that a scope is a range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// Its scope.
    pub scope: Scope,
    /// Number of its table, known to this build or not.
    pub table: i32,
    /// Its key within the table.
    pub key: Box<str>,
}

impl RowId {
    /// A row of a known table.
    #[must_use]
    pub fn new(scope: Scope, table: Table, key: &str) -> Self {
        Self { scope, table: table.into(), key: key.into() }
    }
}

impl From<&RowId> for RowKey {
    fn from(id: &RowId) -> Self {
        Self { scope: id.scope.to_string(), table: id.table, key: id.key.to_string() }
    }
}

/// A row's content and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Revision in the journal that sent it.
    pub revision: u64,
    /// Content hash.
    pub hash: u64,
    /// The table's message, encoded.
    pub payload: Box<[u8]>,
}

/// All rows, and a hash per scope for the second rung of the resume ladder.
#[derive(Debug, Default)]
pub struct Store {
    rows: BTreeMap<RowId, Stored>,
    hashes: BTreeMap<Scope, u64>,
}

impl Store {
    /// The row, if it is held.
    #[must_use]
    pub fn get(&self, id: &RowId) -> Option<&Stored> {
        self.rows.get(id)
    }

    /// Sets a row and returns what was there.
    pub fn insert(&mut self, id: RowId, row: Stored) -> Option<Stored> {
        let hash = self.hashes.entry(id.scope.clone()).or_default();
        *hash ^= row.hash;
        let old = self.rows.insert(id, row);
        if let Some(old) = &old {
            *hash ^= old.hash;
        }
        old
    }

    /// Removes a row and returns it. Its scope stays held.
    pub fn remove(&mut self, id: &RowId) -> Option<Stored> {
        let old = self.rows.remove(id)?;
        if let Some(hash) = self.hashes.get_mut(&id.scope) {
            *hash ^= old.hash;
        }
        Some(old)
    }

    /// Holds a scope, be it an empty one.
    pub fn hold(&mut self, scope: &Scope) {
        self.hashes.entry(scope.clone()).or_default();
    }

    /// No longer holds a scope. Its rows must have been removed.
    pub fn release(&mut self, scope: &Scope) {
        self.hashes.remove(scope);
    }

    /// The rows of a scope, in order of table and key.
    pub fn scope<'a>(&'a self, scope: &Scope) -> impl Iterator<Item = (&'a RowId, &'a Stored)> + use<'a> {
        self.from(RowId { scope: scope.clone(), table: i32::MIN, key: "".into() }).take_while({
            let scope = scope.clone();
            move |(id, _)| id.scope == scope
        })
    }

    /// The rows of a table in a scope, in order of key.
    pub fn table<'a>(&'a self, scope: &Scope, table: Table) -> impl Iterator<Item = (&'a RowId, &'a Stored)> + use<'a> {
        self.from(RowId::new(scope.clone(), table, "")).take_while({
            let scope = scope.clone();
            move |(id, _)| id.table == i32::from(table) && id.scope == scope
        })
    }

    fn from(&self, first: RowId) -> impl Iterator<Item = (&RowId, &Stored)> {
        self.rows.range((Bound::Included(first), Bound::Unbounded))
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = (&RowId, &Stored)> {
        self.rows.iter()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The scopes that are held.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.hashes.keys()
    }

    /// The scopes that are held, with their hashes, and those of the buckets of large ones.
    #[must_use]
    pub fn held(&self) -> Vec<HeldScope> {
        let held = self.hashes.iter();
        held.map(|(scope, &hash)| HeldScope { scope: scope.to_string(), hash, buckets: self.buckets(scope) }).collect()
    }

    fn buckets(&self, scope: &Scope) -> Vec<u64> {
        let Some(count) = buckets::count(self.scope(scope).count()) else { return Vec::new() };
        let mut sums = Sums::new(count);
        self.scope(scope).for_each(|(id, stored)| sums.toggle(id.table, &id.key, stored.hash));
        sums.into()
    }
}
