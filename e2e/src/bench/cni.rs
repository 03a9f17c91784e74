//! How fast pods get their network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Goal, Report, Set, median};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::PAUSE;
use crate::metrics::Source;
use crate::progress::{slow_step, step};
use crate::workload::Workload;

const PODS: u32 = 50;
const ROUNDS: usize = 3;
/// How long containerd waits for all plugins of a pod, the loopback among them; so it counts for every CNI alike.
const ADD_SECONDS: &str = "containerd_cri_network_plugin_operations_duration_seconds_seconds";

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let index = *cluster.nodes()?.first().context("the cluster has no nodes")?;
    let node = cluster.folder.node_name(index);
    let histogram = || {
        let metrics = cluster.node_metrics(index, Source::Containerd)?;
        anyhow::Ok(metrics.histogram(ADD_SECONDS, "operation_type=\"set_up_pod\""))
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
    report.add("CNI ADD, mean", adds.mean() * 1000.0, "ms", None, None);
    report.add("CNI ADD, half of them at most", adds.quantile(0.5) * 1000.0, "ms", None, None);
    report.add("CNI ADD, 99 of 100 at most", adds.quantile(0.99) * 1000.0, "ms", None, None);
    report.add("CNI ADD, how many", adds.count, "", None, None);
    Ok(report)
}
