//! Commits a delta as one, and says which keys of the kernel it may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use axoneme_proto::buckets::{bucket, is_count};
use axoneme_proto::nodesync::{Buckets, Cursor, FailureCode, InputVersion, Row, RowKey};
use axoneme_proto::{Scope, Table};
use ipnet::IpNet;

use super::rows::{self, Content, InvalidRow};
use super::store::{RowId, Stored};
use super::{Desired, FEATURES, HOST, Rejection, is_withheld};

/// A delta, complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The journal.
    pub epoch: Vec<u8>,
    /// The cursor that it starts from.
    pub from_revision: u64,
    /// The cursor that it leads to.
    pub to_revision: u64,
    /// Scopes whose rows are all in `upserts`.
    pub snapshots: Vec<String>,
    /// Buckets whose rows are all in `upserts`.
    pub buckets: Vec<Buckets>,
    /// Rows that are new or changed.
    pub upserts: Vec<Row>,
    /// Rows that are gone.
    pub removals: Vec<RowKey>,
    /// Scopes that this node no longer holds.
    pub dropped_scopes: Vec<String>,
    /// The operator's own inputs were complete.
    pub inputs_complete: bool,
    /// What it is made of, where that is not what the change before was made of.
    pub inputs: Vec<InputVersion>,
}

impl Change {
    /// Keys of the new or changed rows of a table.
    pub fn upserted(&self, table: Table) -> impl Iterator<Item = &str> {
        let keys = self.upserts.iter().filter_map(|row| row.key.as_ref());
        keys.filter(move |key| key.table == i32::from(table)).map(|key| key.key.as_str())
    }
}

/// Keys of the kernel that may have to change, each with the lowest revision that asks for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Exact addresses.
    pub addresses: BTreeMap<IpAddr, u64>,
    /// Prefixes.
    pub cidrs: BTreeMap<IpNet, u64>,
    /// Identities whose policy changed.
    pub policies: BTreeMap<u32, u64>,
    /// Services by "namespace/name".
    pub services: BTreeMap<Box<str>, u64>,
    /// Pods of this node by UID.
    pub endpoints: BTreeMap<Box<str>, u64>,
    /// The node's devices and routes.
    pub network: Option<u64>,
    /// The journal is another one: revisions of what still waits mean nothing any more.
    pub new_epoch: bool,
}

fn mark<K: Ord>(keys: &mut BTreeMap<K, u64>, key: K, since: u64) {
    let lowest = keys.entry(key).or_insert(since);
    *lowest = (*lowest).min(since);
}

impl Dirty {
    fn network(&mut self, since: u64) {
        self.network = Some(self.network.map_or(since, |lowest| lowest.min(since)));
    }

    /// How other nodes and their pods are reached depends on settings and on this node's addresses.
    fn ways(&mut self, desired: &Desired, since: u64) {
        let index = &desired.index;
        index.claimed().chain(index.all_node_addresses()).for_each(|address| mark(&mut self.addresses, address, since));
        index.all_node_cidrs().for_each(|cidr| mark(&mut self.cidrs, cidr, since));
    }

    /// What is closed for as long as this row is withheld.
    fn withheld(&mut self, id: &RowId, since: u64) {
        match &id.scope {
            Scope::Policy(identity) => mark(&mut self.policies, *identity, since),
            Scope::Node(_) if id.table == i32::from(Table::Endpoint) => {
                mark(&mut self.endpoints, id.key.clone(), since);
            }
            Scope::Node(_) if id.table == i32::from(Table::Policy) => mark(&mut self.policies, HOST, since),
            // A service that is not there needs nothing.
            _ => {}
        }
    }

    /// Everything that depends on this row.
    fn touch(&mut self, desired: &Desired, id: &RowId, content: &Content, since: u64) {
        match content {
            Content::Settings(settings) => {
                self.network(since);
                settings.pod_cidrs.iter().for_each(|&cidr| mark(&mut self.cidrs, cidr, since));
                self.ways(desired, since);
            }
            Content::Node(node) => {
                self.network(since);
                for &address in node.addresses.iter().chain(&node.overlay_addresses) {
                    mark(&mut self.addresses, address, since);
                }
                node.pod_cidrs.iter().for_each(|&cidr| mark(&mut self.cidrs, cidr, since));
                if *id.key == *desired.node_name {
                    self.ways(desired, since);
                    // Its zone says which backends are near.
                    desired.services().for_each(|service| mark(&mut self.services, service.into(), since));
                } else {
                    desired.index.claimed_on(&id.key).for_each(|address| mark(&mut self.addresses, address, since));
                }
            }
            Content::Service(_) => mark(&mut self.services, id.key.clone(), since),
            Content::Backends(backends) => mark(&mut self.services, backends.service.as_str().into(), since),
            Content::Policy(policy) => mark(&mut self.policies, policy.identity, since),
            Content::Peer(peer) => peer.addresses.iter().for_each(|&a| mark(&mut self.addresses, a, since)),
            Content::Endpoint(_) => mark(&mut self.endpoints, id.key.clone(), since),
            Content::Pool(_) => self.network(since),
            Content::Namespace(_) => {}
        }
    }
}

impl Desired {
    /// Takes a delta in. Rows that are equal to what is held make nothing dirty.
    pub fn commit(&mut self, change: Change) -> Dirty {
        let mut dirty = Dirty {
            new_epoch: self.cursor.as_ref().is_some_and(|cursor| cursor.epoch != change.epoch),
            ..Dirty::default()
        };
        let Change { epoch, from_revision, to_revision, snapshots, buckets, upserts, removals, dropped_scopes, .. } =
            change;
        let gone_since = to_revision.min(from_revision + 1);
        let snapshots = parse_scopes(&snapshots);
        let mut unseen: BTreeSet<RowId> = BTreeSet::new();
        for scope in &snapshots {
            self.store.hold(scope);
            unseen.extend(self.store.scope(scope).map(|(id, _)| id.clone()));
            unseen.extend(self.rejected.keys().filter(|id| id.scope == *scope).cloned());
        }
        for buckets in &buckets {
            self.sweep(buckets, &mut unseen);
        }
        // Before upserts: a pod that moves to another scope leaves the old one first, so that its claims do not clash.
        for key in removals {
            match row_id(&key) {
                Ok(id) => self.remove(&id, gone_since, &mut dirty),
                Err(err) => tracing::warn!(%err, "removal of a row that cannot be named"),
            }
        }
        for row in upserts {
            let Some(id) = row.key.as_ref().and_then(|key| row_id(key).ok()) else {
                tracing::warn!(key = ?row.key, revision = row.revision, "row that cannot be named");
                continue;
            };
            unseen.remove(&id);
            self.upsert(id, row, &mut dirty);
        }
        for id in unseen {
            self.remove(&id, gone_since, &mut dirty);
        }
        for scope in parse_scopes(&dropped_scopes) {
            self.drop_scope(&scope, gone_since, &mut dirty);
        }
        self.cursor = Some(Cursor { epoch, revision: to_revision });
        self.complete |= change.inputs_complete;
        self.made_of(change.inputs);
        dirty
    }

    /// Adds the rows of these buckets. Of what cannot be understood, nothing is removed.
    fn sweep(&self, buckets: &Buckets, unseen: &mut BTreeSet<RowId>) {
        let Some(scope) = buckets.scope.parse::<Scope>().ok().filter(|_| is_count(buckets.count)) else {
            tracing::warn!(scope = buckets.scope, count = buckets.count, "buckets ignored");
            return;
        };
        let numbers: BTreeSet<u32> = buckets.numbers.iter().copied().collect();
        let swept = |id: &&RowId| numbers.contains(&bucket(id.table, &id.key, buckets.count));
        let rejected = self.rejected.keys().filter(|id| id.scope == scope);
        unseen.extend(self.store.scope(&scope).map(|(id, _)| id).chain(rejected).filter(swept).cloned());
    }

    fn upsert(&mut self, id: RowId, row: Row, dirty: &mut Dirty) {
        let content = match acceptable(&id, &row) {
            Ok(content) => content,
            Err((code, message)) => {
                tracing::warn!(scope = %id.scope, table = id.table, key = %id.key, revision = row.revision, ?code, message, "row refused");
                if is_withheld(&id, code) {
                    self.take_out(&id, row.revision, dirty);
                    dirty.withheld(&id, row.revision);
                }
                self.rejected.insert(id, Rejection { revision: row.revision, code, message });
                return;
            }
        };
        self.rejected.remove(&id);
        let stored = Stored { revision: row.revision, hash: row.hash, payload: row.payload.as_ref().into() };
        let old = self.store.insert(id.clone(), stored);
        if let Some(old) = &old {
            if *old.payload == *row.payload {
                return;
            }
            if let Some(content) = Self::content(&id, old) {
                dirty.touch(self, &id, &content, row.revision);
                self.index.remove(&id, &content);
            }
        }
        self.index.insert(&id, &content);
        dirty.touch(self, &id, &content, row.revision);
    }

    fn remove(&mut self, id: &RowId, since: u64, dirty: &mut Dirty) {
        if self.rejected.remove(id).is_some_and(|rejection| is_withheld(id, rejection.code)) {
            dirty.withheld(id, since);
        }
        self.take_out(id, since, dirty);
    }

    fn take_out(&mut self, id: &RowId, since: u64, dirty: &mut Dirty) {
        let Some(old) = self.store.remove(id) else { return };
        if let Some(content) = Self::content(id, &old) {
            dirty.touch(self, id, &content, since);
            self.index.remove(id, &content);
        }
    }

    fn drop_scope(&mut self, scope: &Scope, since: u64, dirty: &mut Dirty) {
        let rejected = self.rejected.keys().filter(|id| id.scope == *scope);
        let ids: Vec<RowId> = self.store.scope(scope).map(|(id, _)| id).chain(rejected).cloned().collect();
        for id in ids {
            self.remove(&id, since, dirty);
        }
        self.store.release(scope);
    }

    /// Takes a row from a checkpoint. It was accepted when it was written; one that this build does not accept any more is
    /// left out and comes again with its scope.
    pub(super) fn restore_row(&mut self, id: RowId, stored: Stored) -> Result<(), InvalidRow> {
        let content = rows::decode(&id.scope, id.table, &id.key, &stored.payload)?;
        self.index.insert(&id, &content);
        self.store.insert(id, stored);
        Ok(())
    }

    pub(super) fn restore_scope(&mut self, scope: &Scope) {
        self.store.hold(scope);
    }

    pub(super) fn made_of(&mut self, inputs: Vec<InputVersion>) {
        self.inputs.extend(inputs.into_iter().map(|input| (input.kind, input.version)));
    }

    pub(super) fn restore_cursor(&mut self, cursor: Option<Cursor>, complete: bool) {
        self.cursor = cursor;
        self.complete = complete;
    }
}

fn acceptable(id: &RowId, row: &Row) -> Result<Content, (FailureCode, String)> {
    let missing = row.features & !FEATURES;
    if missing != 0 {
        let message = format!("needs features {missing:#x} that this version lacks");
        return Err((FailureCode::Unsupported, message));
    }
    rows::decode(&id.scope, id.table, &id.key, &row.payload).map_err(|err| {
        let code = match err {
            InvalidRow::Table(_) => FailureCode::Unsupported,
            _ => FailureCode::Invalid,
        };
        (code, describe(&err))
    })
}

/// An error with its causes in one line.
fn describe(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn row_id(key: &RowKey) -> Result<RowId, axoneme_proto::scope::InvalidScope> {
    Ok(RowId { scope: key.parsed_scope()?, table: key.table, key: key.key.as_str().into() })
}

/// Scopes of kinds that this build does not know hold no rows that it could know.
fn parse_scopes(scopes: &[String]) -> Vec<Scope> {
    scopes
        .iter()
        .filter_map(|text| text.parse().inspect_err(|err| tracing::warn!(%err, "scope ignored")).ok())
        .collect()
}
