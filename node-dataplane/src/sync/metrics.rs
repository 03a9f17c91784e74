//! What is counted about the connection to the operator.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::SyncError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters of the connection.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connected: Gauge,
    deltas: Counter,
    failures: Family<Reason, Counter>,
    asked: Counter,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let own = registry.sub_registry_with_prefix("axoneme_nodesync");
        own.register("connected", "1 while an operator is connected", self.connected.clone());
        own.register("deltas", "Deltas that were committed", self.deltas.clone());
        own.register("failures", "Sessions and attempts that ended, by reason", self.failures.clone());
        own.register(
            "searched_nodes",
            "Connections tried to nodes that were not known to have an operator",
            self.asked.clone(),
        );
    }

    pub(super) fn connected(&self, connected: bool) {
        self.connected.set(connected.into());
    }

    pub(super) fn committed(&self) {
        self.deltas.inc();
    }

    pub(super) fn asked(&self, nodes: usize) {
        self.asked.inc_by(nodes as u64);
    }

    pub(super) fn failed(&self, err: &SyncError) {
        let reason = match err {
            SyncError::NoOperators => "no-operators",
            SyncError::Trust(_) => "ca",
            SyncError::Dial(_) => "dial",
            SyncError::Credentials(_) => "credentials",
            SyncError::Token { .. } => "token",
            SyncError::Join { .. } => "join",
            SyncError::Session { .. } => "session",
            SyncError::Stopped(_) => "stopped",
        };
        self.failures.get_or_create(&Reason { reason }).inc();
    }
}
