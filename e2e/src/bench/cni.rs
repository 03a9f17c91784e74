//! How fast pods get their network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Goal, Report, Set, median};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::PAUSE;
use crate::metrics::Histogram;
use crate::progress::{slow_step, step};
use crate::state::Cni;
use crate::workload::Workload;

const PODS: u32 = 50;
const ROUNDS: usize = 3;
/// The time the daemon takes for CNI ADD, from the plugin's call to its answer.
const ADD_SECONDS: &str = "cilium_cni_request_duration_seconds";

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let index = *cluster.nodes()?.first().context("the cluster has no nodes")?;
    let node = cluster.folder.node_name(index);
    let ours = cluster.folder.expect()?.cni == Cni::Axoneme;
    let histogram = || {
        if ours {
            cluster.daemon_metrics(index).map(|m| m.histogram(ADD_SECONDS, "method=\"add\""))
        } else {
            Ok(Histogram::default())
        }
    };
    let before = histogram()?;
    let workload = Workload::new(api, "bench-cni")?;
    let mut seconds = Vec::new();
    for round in 1..=ROUNDS {
        let took = slow_step(&format!("{PODS} pods of a Deployment on one node, round {round} of {ROUNDS}"), || {
            let started = Instant::now();
            workload.deployment("burst", &node, PODS, PAUSE)?;
            workload.deployment_ready("burst", PODS, Duration::from_secs(300))?;
            Ok(started.elapsed().as_secs_f64())
        })?;
        seconds.push(took);
        step("delete them", || workload.deployment_gone("burst"))?;
    }
    let adds = histogram()?.since(&before);

    let mut report = Report::new(Set::Cni);
    report.add(format!("{PODS} pods, created to ready"), median(&seconds), "s", Some(Goal::AtMost(17.5)), Some(17.5));
    if adds.count > 0.0 {
        report.add("CNI ADD in the daemon, mean", adds.mean() * 1000.0, "ms", None, None);
        report.add("CNI ADD in the daemon, 99th percentile at most", adds.quantile(0.99) * 1000.0, "ms", None, None);
        report.add("CNI ADD, count", adds.count, "", None, None);
    }
    Ok(report)
}
