//! What is counted about reconciling, under Cilium's names where it has the same.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::engine::{Engine, Round};
use crate::desired::Change;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointState {
    endpoint_state: &'static str,
}

/// Where policies come from; Cilium has several, and dashboards ask for this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

const KUBERNETES: Source = Source { source: "k8s" };

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Enforcement {
    enforcement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RowChange {
    change: &'static str,
}

/// As Cilium calls them, with whether ingress and egress are enforced. What has no policy in the kernel, yet, comes first.
const ENFORCEMENTS: [(&str, (bool, bool)); 4] =
    [("none", (false, false)), ("ingress", (true, false)), ("egress", (false, true)), ("both", (true, true))];

/// Counters and gauges of the reconcilers.
#[derive(Clone, Debug)]
pub struct Metrics {
    rows: Family<RowChange, Counter>,
    delay: Family<Source, Histogram, fn() -> Histogram>,
    drift: Counter,
    endpoints: Family<EndpointState, Gauge>,
    attached: Gauge,
    enforcement: Family<Enforcement, Gauge>,
    max_revision: Gauge,
    policies: Gauge,
    frontends: Gauge,
    received: Gauge,
    attempted: Gauge,
    failing: Gauge,
    wanted: BTreeMap<u32, Instant>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            rows: Family::default(),
            delay: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 16))),
            drift: Counter::default(),
            endpoints: Family::default(),
            attached: Gauge::default(),
            enforcement: Family::default(),
            max_revision: Gauge::default(),
            policies: Gauge::default(),
            frontends: Gauge::default(),
            received: Gauge::default(),
            attempted: Gauge::default(),
            failing: Gauge::default(),
            wanted: BTreeMap::new(),
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let cilium = registry.sub_registry_with_prefix("cilium");
        cilium.register(
            "policy_implementation_delay",
            "Seconds from a policy's arrival on this node to its being in force",
            self.delay.clone(),
        );
        cilium.register("endpoint_state", "Attached pods by state", self.endpoints.clone());
        cilium.register("endpoint", "Attached pods", self.attached.clone());
        cilium.register(
            "policy_endpoint_enforcement_status",
            "Attached pods by the directions in which what no policy allows is dropped",
            self.enforcement.clone(),
        );
        cilium.register(
            "policy_max_revision",
            "Revision up to which every row of the operator was tried",
            self.max_revision.clone(),
        );
        cilium.register("policy", "Identities with a policy in the kernel", self.policies.clone());
        cilium.register("services", "Frontends in the kernel", self.frontends.clone());
        let own = registry.sub_registry_with_prefix("axoneme");
        own.register("rows", "Rows that the operator sent, by what became of them", self.rows.clone());
        own.register("revision_received", "Revision that was committed last", self.received.clone());
        own.register("revision_attempted", "Revision up to which every row was tried", self.attempted.clone());
        own.register("failing_entries", "Entries that are not as desired", self.failing.clone());
        own.register("drifted_entries", "Entries that were not as they had been written", self.drift.clone());
    }

    pub(super) fn committed(&self, change: &Change) {
        self.rows.get_or_create(&RowChange { change: "upsert" }).inc_by(change.upserts.len() as u64);
        self.rows.get_or_create(&RowChange { change: "removal" }).inc_by(change.removals.len() as u64);
    }

    pub(super) fn policies_wanted(&mut self, identities: Vec<u32>, now: Instant) {
        for identity in identities {
            self.wanted.entry(identity).or_insert(now);
        }
    }

    pub(super) fn round(&mut self, round: &Round, engine: &Engine, now: Instant) {
        for identity in &round.enforced {
            if let Some(since) = self.wanted.remove(identity) {
                self.delay.get_or_create(&KUBERNETES).observe((now - since).as_secs_f64());
            }
        }
        self.drift.inc_by(round.drifted as u64);
        let endpoints = engine.endpoints.ops().attached();
        let attached = endpoints.len() as i64;
        self.attached.set(attached);
        let mut enforced = [0; ENFORCEMENTS.len()];
        for endpoint in &endpoints {
            let flags = engine.policies.enforced(endpoint.enforcement.identity);
            let index = ENFORCEMENTS.iter().position(|(_, of)| *of == flags);
            enforced[index.unwrap_or(0)] += 1;
        }
        for ((enforcement, _), count) in ENFORCEMENTS.into_iter().zip(enforced) {
            self.enforcement.get_or_create(&Enforcement { enforcement }).set(count);
        }
        let waiting = engine.endpoints.queue.failures().count() as i64;
        self.endpoints.get_or_create(&EndpointState { endpoint_state: "ready" }).set(attached - waiting);
        self.endpoints.get_or_create(&EndpointState { endpoint_state: "not-ready" }).set(waiting);
        self.policies.set(engine.policies.len() as i64);
        self.frontends.set(engine.services.frontends() as i64);
        let status = engine.status();
        self.received.set(status.received.cast_signed());
        self.attempted.set(status.attempted.cast_signed());
        self.max_revision.set(status.attempted.cast_signed());
        self.failing.set(status.failing.cast_signed());
    }
}
