//! Counts of what pods wait for.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::barrier::News;

/// Upper ends of the histogram's buckets, in seconds. ADD waits 0.1 s; silent nodes are skipped after 1 s.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Counts of what pods wait for.
#[derive(Clone, Debug)]
pub struct PodMetrics {
    published: Histogram,
    opened: Counter,
    acked: Counter,
    skipped: Counter,
    passed: Counter,
    seconds: Histogram,
}

impl Default for PodMetrics {
    fn default() -> Self {
        let (opened, acked, skipped, passed) = Default::default();
        let (published, seconds) = (Histogram::new(BUCKETS), Histogram::new(BUCKETS));
        Self { published, opened, acked, skipped, passed, seconds }
    }
}

impl PodMetrics {
    /// Registers them; `registry` carries the prefix.
    pub fn register(&self, registry: &mut Registry) {
        let own = self.clone();
        let about = "From a pod's binding, as the operator saw it, to publishing its identity and address";
        registry.register("pod_publication_seconds", about, own.published);
        registry.register("barriers_opened", "Pods of which nodes had to know before they start", own.opened);
        registry.register(
            "barriers_passed",
            "Of these, those of which all nodes know or are not waited for",
            own.passed,
        );
        registry.register("barrier_nodes_acked", "Nodes that applied what a barrier waited for", own.acked);
        registry.register("barrier_nodes_skipped", "Nodes that were too silent to be waited for", own.skipped);
        registry.register("barrier_wait_seconds", "From publishing a pod's address to its barrier's end", own.seconds);
    }

    pub(super) fn count(&self, news: &News, published: &[Duration]) {
        published.iter().for_each(|time| self.published.observe(time.as_secs_f64()));
        self.opened.inc_by(news.opened);
        self.acked.inc_by(news.acked);
        self.skipped.inc_by(news.skipped);
        self.passed.inc_by(news.passed.len() as u64);
        news.passed.iter().for_each(|time| self.seconds.observe(time.as_secs_f64()));
    }
}
