//! What is counted about CNI, under Cilium's names where it has the same.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::protocol::{Command, Response};
use crate::desired::pods::Told;

/// Seconds. The figures that matter are 0.01 (a data path) and 0.1 (an ADD, and what the barrier may take).
const BUCKETS: [f64; 15] = [0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    path: &'static str,
    method: &'static str,
    return_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BarrierTime {
    barrier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counters and histograms of the CNI server.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Request, Histogram, fn() -> Histogram>,
    add: Family<BarrierTime, Histogram, fn() -> Histogram>,
    row: Histogram,
    data_path: Histogram,
    barrier: Family<Outcome, Counter>,
    barrier_wait: Histogram,
    skipped: Counter,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::new_with_constructor(histogram),
            add: Family::new_with_constructor(histogram),
            row: histogram(),
            data_path: histogram(),
            barrier: Family::default(),
            barrier_wait: histogram(),
            skipped: Counter::default(),
        }
    }
}

/// Where the time of an ADD went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddTimes {
    /// All of it.
    pub total: Duration,
    /// Until the pod's row and policy were there.
    pub row: Duration,
    /// What was added by waiting for the barrier when all else was done.
    pub barrier: Duration,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let cilium = registry.sub_registry_with_prefix("cilium");
        cilium.register(
            "api_process_time_seconds",
            "Seconds that requests of the CNI plugin took: PUT is ADD, DELETE is DEL, GET is CHECK",
            self.requests.clone(),
        );
        let own = registry.sub_registry_with_prefix("axoneme_cni");
        own.register(
            "add_seconds",
            "Seconds that successful ADDs took, with and without what the barrier made them wait",
            self.add.clone(),
        );
        own.register("row_wait_seconds", "Seconds that ADDs waited for the pod's row and policy", self.row.clone());
        own.register(
            "datapath_seconds",
            "Seconds to make a pod's link and map entries, once it is its turn",
            self.data_path.clone(),
        );
        own.register("barrier", "ADDs by whether the pod's peers were told of it in time", self.barrier.clone());
        own.register(
            "barrier_wait_seconds",
            "Seconds from a pod's row to the barrier's outcome",
            self.barrier_wait.clone(),
        );
        own.register(
            "barrier_skipped_nodes",
            "Nodes that were silent for too long to be waited for",
            self.skipped.clone(),
        );
    }

    pub(super) fn request(&self, command: Command, response: &Response, took: Duration) {
        let (path, method, success) = match command {
            Command::Add => ("/v1/endpoint", "PUT", "201"),
            Command::Del => ("/v1/endpoint", "DELETE", "200"),
            Command::Check => ("/v1/endpoint", "GET", "200"),
            Command::Status => ("/v1/healthz", "GET", "200"),
            Command::Gc => ("/v1/endpoints", "DELETE", "200"),
        };
        let return_code = if matches!(response, Response::Failed(_)) { "500" } else { success };
        self.requests.get_or_create(&Request { path, method, return_code }).observe(took.as_secs_f64());
    }

    pub(super) fn added(&self, times: AddTimes) {
        let add = |barrier| self.add.get_or_create(&BarrierTime { barrier });
        add("included").observe(times.total.as_secs_f64());
        add("excluded").observe(times.total.saturating_sub(times.barrier).as_secs_f64());
        self.row.observe(times.row.as_secs_f64());
    }

    pub(super) fn data_path(&self, took: Duration) {
        self.data_path.observe(took.as_secs_f64());
    }

    pub(super) fn barrier(&self, told: Told, waited: Duration) {
        let outcome = match told {
            Told::Told { skipped } => {
                self.skipped.inc_by(skipped.into());
                "told"
            }
            Told::Timeout => "timeout",
            Told::Disconnected => "disconnected",
        };
        self.barrier.get_or_create(&Outcome { outcome }).inc();
        self.barrier_wait.observe(waited.as_secs_f64());
    }
}
