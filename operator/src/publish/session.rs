//! A node's session: a cursor into the journal, as a state machine without any transport.
//!
//! A session never queues what happens. It remembers up to which revision the node was told everything, and makes one delta of
//! whatever lies between that and now when it is asked. Resuming climbs down a ladder: differences from the node's cursor in the
//! same epoch; else, scope by scope, nothing where the hashes agree; else the whole scope.

mod chunk;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use axoneme_proto::nodesync::{Delta, Hello, Row, RowKey, Table, Welcome};
use axoneme_proto::{PROTOCOL, Scope};

use super::journal::{Grant, Journal};
use crate::table::Change;

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
    /// This many scopes were held as they should be, the others are sent whole.
    Scopes(usize),
    /// All scopes are sent whole.
    Snapshot,
}

/// One node's session.
#[derive(Debug)]
pub struct SessionState {
    node: Arc<str>,
    /// The node's cursor once it has everything that was sent.
    cursor: u64,
    /// Up to here the journal was read for `held` scopes; differs from the cursor only while the first delta is due.
    read: u64,
    /// Scopes that the node has as the journal had them at `read`.
    held: BTreeSet<Scope>,
    /// The grant that `held` is equal to, if it is.
    granted: Option<Grant>,
    /// Scopes that the node has, in whatever state.
    present: BTreeSet<Scope>,
    /// Texts that it calls scopes and that are none, to be dropped.
    nonsense: Vec<String>,
    /// The node waits for a first delta, be it empty: until then its cursor means nothing.
    first: bool,
    chunks: VecDeque<Delta>,
    /// Deltas not yet acknowledged: to which revision, how many bytes.
    sent: VecDeque<(u64, usize)>,
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
        let resumable = |cursor: &&axoneme_proto::nodesync::Cursor| {
            *cursor.epoch == journal.epoch() && (journal.horizon()..=journal.revision()).contains(&cursor.revision)
        };
        let cursor = hello.cursor.as_ref().filter(resumable).map(|cursor| cursor.revision);
        let (mut held, mut present, mut nonsense) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for claimed in &hello.scopes {
            let Ok(scope) = claimed.scope.parse::<Scope>() else {
                nonsense.push(claimed.scope.clone());
                continue;
            };
            let same = || grant.contains(&scope) && journal.scope_hash(&scope) == claimed.hash;
            if cursor.is_some() || same() {
                held.insert(scope.clone());
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
            held,
            granted: None,
            present,
            nonsense,
            first: cursor.is_none(),
            chunks: VecDeque::new(),
            sent: VecDeque::new(),
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
    /// When the Node is gone: the session ends, and the node keeps what it has.
    pub fn next(&mut self, journal: &Journal) -> Result<Option<Delta>, Refused> {
        if self.chunks.is_empty() && self.sent.iter().map(|(_, bytes)| bytes).sum::<usize>() < WINDOW {
            self.prepare(journal)?;
        }
        Ok(self.chunks.pop_front())
    }

    /// Makes one delta, in chunks, of everything between what the node has and the newest revision.
    fn prepare(&mut self, journal: &Journal) -> Result<(), Refused> {
        let to = journal.revision();
        if to == self.read && !self.first && journal.barrier() <= self.cursor {
            return Ok(());
        }
        let grant = journal.grant(&self.node).ok_or_else(|| Refused::UnknownNode(Arc::clone(&self.node)))?;
        if self.read < journal.horizon() {
            // Too slow: removals are forgotten, so only whole scopes can be told.
            self.held.clear();
            self.granted = None;
        }
        // Most often nothing has changed for this node, and a grant can have thousands of scopes.
        let same_grant = self.granted.as_ref().is_some_and(|granted| Arc::ptr_eq(granted, grant));
        let (mut added, mut dropped) = (Vec::new(), std::mem::take(&mut self.nonsense));
        if !same_grant {
            added.extend(grant.difference(&self.held));
            dropped.extend(self.present.difference(grant).map(ToString::to_string));
        }
        let mut upserts: Vec<Row> = Vec::new();
        let mut removals: Vec<RowKey> = Vec::new();
        for (revision, change) in journal.changes_since(self.read) {
            match change {
                Change::Upsert(id, row) if self.keeps(grant, &id.scope) => upserts.push(row.to_row(id, revision)),
                Change::Removal(id) if self.keeps(grant, &id.scope) => removals.push(id.to_key()),
                Change::Upsert(..) | Change::Removal(_) => {}
            }
        }
        for scope in &added {
            upserts.extend(journal.rows_of(scope).map(|(id, revision, row)| row.to_row(id, revision)));
        }
        self.read = to;
        if added.is_empty() && dropped.is_empty() {
            self.granted = Some(Arc::clone(grant));
        }
        let news = !(upserts.is_empty() && removals.is_empty() && added.is_empty() && dropped.is_empty());
        if !news && !self.first && journal.barrier() <= self.cursor {
            return Ok(());
        }
        let peers = Table::Peer as i32;
        let barrier = journal.barrier() > self.cursor
            || upserts.iter().filter_map(|row| row.key.as_ref()).chain(&removals).any(|key| key.table == peers);
        let head = Delta {
            from_revision: self.cursor,
            to_revision: to,
            snapshots: added.iter().map(ToString::to_string).collect(),
            inputs_complete: true,
            ack_at_once: barrier,
            ..Delta::default()
        };
        let (chunks, bytes) = chunk::split(head, upserts, removals, dropped);
        self.chunks = chunks;
        self.sent.push_back((to, bytes));
        if !same_grant {
            self.held.clone_from(grant);
            self.present.clone_from(grant);
            self.granted = Some(Arc::clone(grant));
        }
        self.cursor = to;
        self.first = false;
        Ok(())
    }

    /// Whether changes of a scope are told one by one: the node has it and keeps it.
    fn keeps(&self, grant: &BTreeSet<Scope>, scope: &Scope) -> bool {
        self.held.contains(scope) && grant.contains(scope)
    }
}
