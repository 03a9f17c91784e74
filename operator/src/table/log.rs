//! A sorted table that remembers when each key changed last.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The last change of a key after some revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a, K, V> {
    /// It has this value.
    Upsert(&'a K, &'a V),
    /// It is gone.
    Removal(&'a K),
}

/// Keys with values, and for each key, present or removed, the revision of its last change.
///
/// Readers ask for what changed after a revision; versions in between are skipped by construction, so a slow reader costs
/// nothing. Removed keys stay as tombstones up to a cap. Behind the horizon, the newest tombstone given up, differences can no
/// longer be told.
#[derive(Debug)]
pub struct Log<K, V> {
    revision: u64,
    rows: BTreeMap<Arc<K>, (u64, V)>,
    tombstones: BTreeMap<Arc<K>, u64>,
    changes: BTreeMap<u64, Arc<K>>,
    removals: BTreeMap<u64, Arc<K>>,
    tombstone_cap: usize,
    horizon: u64,
}

impl<K: Ord, V: PartialEq> Log<K, V> {
    /// An empty table that keeps up to `tombstone_cap` tombstones.
    #[must_use]
    pub fn new(tombstone_cap: usize) -> Self {
        Self {
            revision: 0,
            rows: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            changes: BTreeMap::new(),
            removals: BTreeMap::new(),
            tombstone_cap,
            horizon: 0,
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision from which [`Log::changes_since`] is complete.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Draws a revision for something that is no row.
    pub fn bump(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Sets `key`; an equal value changes nothing and gets no revision. Gives back the value that was replaced, or `None` if
    /// nothing changed.
    pub fn upsert(&mut self, key: K, value: V) -> Option<Option<V>> {
        if let Some((revision, old)) = self.rows.get_mut(&key) {
            if *old == value {
                return None;
            }
            let changed = self.changes.remove(revision);
            self.revision += 1;
            *revision = self.revision;
            let old = std::mem::replace(old, value);
            self.changes.insert(self.revision, changed.unwrap_or_else(|| Arc::new(key)));
            return Some(Some(old));
        }
        let shared = match self.tombstones.remove_entry(&key) {
            Some((shared, revision)) => {
                self.removals.remove(&revision);
                shared
            }
            None => Arc::new(key),
        };
        self.revision += 1;
        self.changes.insert(self.revision, Arc::clone(&shared));
        self.rows.insert(shared, (self.revision, value));
        Some(None)
    }

    /// Removes `key` and leaves a tombstone; gives back what was removed.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (shared, (revision, value)) = self.rows.remove_entry(key)?;
        self.changes.remove(&revision);
        self.revision += 1;
        self.removals.insert(self.revision, Arc::clone(&shared));
        self.tombstones.insert(shared, self.revision);
        while self.removals.len() > self.tombstone_cap {
            if let Some((revision, key)) = self.removals.pop_first() {
                self.horizon = revision;
                self.tombstones.remove(&key);
            }
        }
        Some(value)
    }

    /// The value of `key` and the revision that it was set with.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<(u64, &V)> {
        self.rows.get(key).map(|(revision, value)| (*revision, value))
    }

    /// Keys in `range`, with revision and value.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, u64, &V)> {
        // `Arc<K>` borrows as `K`, so the bounds need no allocation.
        self.rows.range::<K, _>((range.start_bound(), range.end_bound())).map(|(k, (r, v))| (&**k, *r, v))
    }

    /// What changed after `revision`, each key once: upserts in the order of their revisions, then removals. Complete unless
    /// `revision` is below the horizon.
    pub fn changes_since(&self, revision: u64) -> impl Iterator<Item = (u64, Change<'_, K, V>)> {
        let after = (Bound::Excluded(revision), Bound::Unbounded);
        let upserts = self.changes.range(after).filter_map(|(revision, key)| {
            let (_, value) = self.rows.get(key)?;
            Some((*revision, Change::Upsert(&**key, value)))
        });
        upserts.chain(self.removals.range(after).map(|(revision, key)| (*revision, Change::Removal(&**key))))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many tombstones there are.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.removals.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(log: &Log<&'static str, u8>, since: u64) -> Vec<String> {
        let text = |change| match change {
            (revision, Change::Upsert(key, value)) => format!("{revision} {key}={value}"),
            (revision, Change::Removal(key)) => format!("{revision} -{key}"),
        };
        log.changes_since(since).map(text).collect()
    }

    #[test]
    fn each_key_is_told_once_with_its_last_change() {
        let mut log = Log::new(10);
        log.upsert("a", 1);
        log.upsert("b", 1);
        assert_eq!(log.upsert("a", 1), None, "an equal value gets no revision");
        assert_eq!(log.upsert("a", 2), Some(Some(1)));
        assert_eq!(log.remove(&"b"), Some(1));
        assert_eq!(log.remove(&"b"), None);
        assert_eq!(changes(&log, 0), ["3 a=2", "4 -b"]);
        assert_eq!(changes(&log, 3), ["4 -b"]);
        log.upsert("b", 5);
        assert_eq!(changes(&log, 3), ["5 b=5"], "a tombstone ends when its key comes back");
        assert_eq!(log.tombstones(), 0);
    }

    #[test]
    fn tombstones_are_capped_and_the_horizon_is_remembered() {
        let mut log = Log::new(1);
        log.upsert("a", 1);
        log.upsert("b", 1);
        log.remove(&"a");
        assert_eq!(log.horizon(), 0);
        log.remove(&"b");
        assert_eq!((log.horizon(), log.tombstones()), (3, 1));
        assert_eq!(changes(&log, 3), ["4 -b"]);
    }

    #[test]
    fn ranges_are_sorted() {
        let mut log = Log::new(1);
        for key in ["b/2", "a/1", "b/1", "c/1"] {
            log.upsert(key, 0);
        }
        assert_eq!(log.range("b".."c").map(|(key, ..)| *key).collect::<Vec<_>>(), ["b/1", "b/2"]);
    }
}
