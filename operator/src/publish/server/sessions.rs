//! One session a node: a newer one ends the older one, which may hang on a connection that nobody closes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metrics;
use tokio_util::sync::CancellationToken;

use crate::engine::CaughtUp;
use crate::publish::session::Rung;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RungLabel {
    rung: &'static str,
}

/// Counts of sessions and of what is sent.
#[derive(Clone, Debug, Default)]
pub struct SessionMetrics {
    open: Gauge,
    opened: Family<RungLabel, Counter>,
    held: Counter,
    behind: Counter,
    rows: Counter,
    bytes: Counter,
}

impl SessionMetrics {
    /// Registers them; `metrics` carries the prefix.
    pub fn register(metrics: &mut Metrics) -> Self {
        let own = Self::default();
        metrics.register("nodesync_sessions", "Nodes that are served", own.open.clone());
        metrics.register("nodesync_sessions_opened", "Sessions by how they resumed", own.opened.clone());
        let held = "Sessions that waited until inputs were as new as what their nodes held";
        metrics.register("nodesync_sessions_held", held, own.held.clone());
        let behind = "Sessions that were served from inputs older than what their nodes held";
        metrics.register("nodesync_sessions_behind", behind, own.behind.clone());
        metrics.register("nodesync_rows_sent", "Rows and removals sent to nodes", own.rows.clone());
        metrics.register("nodesync_bytes_sent", "Bytes of rows sent to nodes", own.bytes.clone());
        own
    }

    /// Counts what came of a node that knew more.
    pub(super) fn caught_up(&self, caught_up: &CaughtUp) {
        let counter = match caught_up {
            CaughtUp::AtOnce => return,
            CaughtUp::Waited => &self.held,
            CaughtUp::Behind(_) => &self.behind,
        };
        counter.inc();
    }

    /// Counts a delta.
    pub(super) fn sent(&self, rows: usize, bytes: usize) {
        self.rows.inc_by(rows as u64);
        self.bytes.inc_by(bytes as u64);
    }
}

/// The sessions that are open.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<Arc<str>, Open>>>,
    metrics: SessionMetrics,
}

#[derive(Debug)]
struct Open {
    id: u64,
    end: CancellationToken,
}

/// A place among the sessions; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Place {
    sessions: Sessions,
    node: Arc<str>,
    id: u64,
    /// Cancelled when a newer session of the node begins.
    pub(super) replaced: CancellationToken,
}

impl Sessions {
    pub(super) fn new(metrics: SessionMetrics) -> Self {
        Self { open: Arc::default(), metrics }
    }

    pub(super) fn metrics(&self) -> &SessionMetrics {
        &self.metrics
    }

    /// Takes the node's place, and ends who had it.
    pub(super) fn enter(&self, node: &Arc<str>, rung: Rung) -> Place {
        let rung = match rung {
            Rung::Deltas => "deltas",
            Rung::Scopes(_) => "scopes",
            Rung::Snapshot => "snapshot",
        };
        self.metrics.opened.get_or_create(&RungLabel { rung }).inc();
        let replaced = CancellationToken::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let id = open.get(node).map_or(0, |former| former.id + 1);
        if let Some(former) = open.insert(Arc::clone(node), Open { id, end: replaced.clone() }) {
            former.end.cancel();
        }
        self.metrics.open.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        Place { sessions: self.clone(), node: Arc::clone(node), id, replaced }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.node).is_some_and(|session| session.id == self.id) {
            open.remove(&self.node);
        }
        self.sessions.metrics.open.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
    }
}
