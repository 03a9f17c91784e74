//! A node, as far as sessions see one.

use std::collections::BTreeMap;

use axoneme_proto::buckets::{Sums, bucket, count};
use axoneme_proto::nodesync::{Buckets, Cursor, Delta, HeldScope, Hello, Row, Welcome};
use prost::Message;

use crate::publish::journal::Journal;

/// A node's desired tables: what it has committed, and what it has staged.
#[derive(Debug, Default)]
pub(crate) struct TestNode {
    cursor: Option<Cursor>,
    epoch: Vec<u8>,
    pub(crate) scopes: BTreeMap<String, BTreeMap<(i32, String), Row>>,
    staged: Vec<Delta>,
    /// Rows received, in all.
    pub(crate) received: usize,
}

impl TestNode {
    pub(crate) fn hello(&self, name: &str) -> Hello {
        let hash = |rows: &BTreeMap<_, Row>| rows.values().fold(0, |hash, row| hash ^ row.hash);
        let buckets = |rows: &BTreeMap<(i32, String), Row>| {
            let mut sums = Sums::new(count(rows.len())?);
            rows.iter().for_each(|((table, key), row)| sums.toggle(*table, key, row.hash));
            Some(sums.into())
        };
        let held = self.scopes.iter().map(|(scope, rows)| HeldScope {
            scope: scope.clone(),
            hash: hash(rows),
            buckets: buckets(rows).unwrap_or_default(),
        });
        Hello {
            node: name.into(),
            protocol_min: 1,
            protocol_max: 2,
            cursor: self.cursor.clone(),
            scopes: held.collect(),
            ..Hello::default()
        }
    }

    /// Begins a session: what was staged is gone.
    pub(crate) fn welcome(&mut self, welcome: &Welcome) {
        self.staged.clear();
        self.epoch.clone_from(&welcome.epoch);
        if !welcome.resumed {
            self.cursor = None;
        }
    }

    /// Stages a chunk, and commits when it is the last one; gives back the revision that is held then.
    pub(crate) fn receive(&mut self, chunk: Delta) -> Option<u64> {
        let cursor = self.cursor.as_ref().map_or(0, |cursor| cursor.revision);
        assert_eq!(chunk.from_revision, cursor, "a delta starts where the last one ended");
        assert_eq!(chunk.chunk as usize, self.staged.len(), "no chunk is left out");
        // As it arrives: its rows were encoded before.
        let chunk = Delta::decode(&*chunk.encode_to_vec()).unwrap();
        let last = chunk.last;
        self.received += chunk.upserts.len();
        self.staged.push(chunk);
        last.then(|| self.commit())
    }

    fn commit(&mut self) -> u64 {
        let mut to = 0;
        for chunk in std::mem::take(&mut self.staged) {
            to = chunk.to_revision;
            for scope in chunk.snapshots {
                self.scopes.insert(scope, BTreeMap::new());
            }
            for Buckets { scope, count, numbers } in chunk.buckets {
                let rows = self.scopes.get_mut(&scope).expect("buckets come only of scopes that are held");
                rows.retain(|(table, key), _| !numbers.contains(&bucket(*table, key, count)));
            }
            for row in chunk.upserts {
                let key = row.key.clone().unwrap();
                let rows = self.scopes.get_mut(&key.scope).expect("rows come only for scopes that are held");
                rows.insert((key.table, key.key), row);
            }
            for key in chunk.removals {
                let rows = self.scopes.get_mut(&key.scope).expect("removals come only for scopes that are held");
                rows.remove(&(key.table, key.key));
            }
            for scope in chunk.dropped_scopes {
                self.scopes.remove(&scope);
            }
        }
        self.cursor = Some(Cursor { epoch: self.epoch.clone(), revision: to });
        to
    }

    /// That the node holds exactly what the journal has for it.
    pub(crate) fn assert_equals(&self, journal: &Journal, name: &str) {
        let grant = journal.grant(name).unwrap();
        let wanted: BTreeMap<String, BTreeMap<(i32, String), Row>> = grant
            .iter()
            .map(|scope| {
                let rows = journal
                    .rows_of(scope)
                    .map(|(id, _, row)| ((id.table as i32, id.key.to_string()), Row::decode(row.encoded()).unwrap()));
                (scope.to_string(), rows.collect())
            })
            .collect();
        let plain = |scopes: &BTreeMap<String, BTreeMap<(i32, String), Row>>| -> Vec<_> {
            let rows = scopes.iter().map(|(scope, rows)| {
                (
                    scope.clone(),
                    rows.iter().map(|(key, row)| (key.clone(), row.hash, row.payload.clone())).collect::<Vec<_>>(),
                )
            });
            rows.collect()
        };
        assert_eq!(plain(&self.scopes), plain(&wanted));
    }
}
