//! How fast pods get their network: 50 pods of a Deployment at once on one node, against the same with the bridge plugin on a
//! second cluster that this measurement starts beside the first one, and what the daemon counts of each ADD.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::statistics::ratios;
use super::{Goal, Options, Report, Row, Set};
use crate::api::Api;
use crate::cluster::{Cluster, Shape};
use crate::images::PAUSE;
use crate::machine;
use crate::metrics::{Histogram, Source};
use crate::progress::{note, slow_step, step};
use crate::state::Cni;
use crate::workload::Workload;

const PODS: u32 = 50;
const ROUNDS: usize = 11;
/// Pods that come one after another.
const SINGLES: usize = 50;
/// What the daemon counts: seconds of successful ADDs with and without what the barrier added, of making links and map
/// entries, and of waiting for the pod's row; and how the barrier ended.
const ADD: &str = "axoneme_cni_add_seconds";
const DATA_PATH: &str = "axoneme_cni_datapath_seconds";
const ROW: &str = "axoneme_cni_row_wait_seconds";
const BARRIER: &str = "axoneme_cni_barrier_total";
const SKIPPED: &str = "axoneme_cni_barrier_skipped_nodes_total";
/// How long containerd waits for all plugins of a pod, the loopback among them.
const CONTAINERD: &str = "containerd_cri_network_plugin_operations_duration_seconds_seconds";

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let rounds = options.rounds(ROUNDS);
    let floor = Floor::up(cluster)?;
    let floor_api = floor.0.api()?;
    let (ours, theirs) = (Bursts::new(cluster, api)?, Bursts::new(&floor.0, &floor_api)?);
    let idle = Counted::read(cluster, ours.node)?;
    ours.singles(options.rounds(SINGLES))?;
    let before = Counted::read(cluster, ours.node)?;
    let (mut own, mut bridge) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let what = format!("{PODS} pods at once, round {round} of {rounds}");
        // The order changes, so that neither always comes after the other.
        for turn in 0..2 {
            if (round + turn) % 2 == 1 {
                own.push(ours.burst(&format!("{what}: this project"))?);
            } else {
                bridge.push(theirs.burst(&format!("{what}: bridge plugin"))?);
            }
        }
    }
    let counted = Counted::read(cluster, ours.node)?.since(&before);
    let single = before.since(&idle).data_path;
    if counted.add.count < f64::from(PODS) {
        bail!("the daemon counted {} ADDs as {ADD}", counted.add.count);
    }

    let mut report = Report::new(Set::Cni);
    report.add(Row::median(format!("{PODS} pods, created to ready"), &own, "s").baseline(17.5));
    report.add(Row::median(format!("{PODS} pods, created to ready, bridge plugin"), &bridge, "s").baseline(11.6));
    let row = Row::median(format!("{PODS} pods, this project / bridge plugin"), &ratios(&own, &bridge), "");
    report.add(row.reach(Goal::AtMost(1.1)).baseline(1.5));
    counted.report(&mut report);
    for (how, histogram) in [("one after another", &single), ("50 at once", &counted.data_path)] {
        let row =
            Row::new(format!("link and map entries, {how}, 99 of 100 at most"), milliseconds(histogram, 0.99), "ms");
        // Cilium's mean, to load an endpoint's programs.
        report.add(row.reach(Goal::AtMost(10.0)).baseline(225.0));
        report.add(Row::new(format!("link and map entries, {how}, mean"), histogram.mean() * 1000.0, "ms"));
    }
    Ok(report)
}

/// What a node has counted.
struct Counted {
    add: Histogram,
    with_barrier: Histogram,
    data_path: Histogram,
    row: Histogram,
    containerd: Histogram,
    barrier: [f64; 4],
}

/// Outcomes of the barrier.
const OUTCOMES: [&str; 3] = ["told", "timeout", "disconnected"];

impl Counted {
    fn read(cluster: &Cluster, node: u8) -> Result<Self> {
        let daemon = cluster.node_metrics(node, Source::Daemon)?;
        let outcome = |name: &str| daemon.sum(BARRIER, &format!("outcome=\"{name}\""));
        let [told, timeout, disconnected] = OUTCOMES.map(outcome);
        Ok(Self {
            add: daemon.histogram(ADD, "barrier=\"excluded\""),
            with_barrier: daemon.histogram(ADD, "barrier=\"included\""),
            data_path: daemon.histogram(DATA_PATH, ""),
            row: daemon.histogram(ROW, ""),
            containerd: cluster
                .node_metrics(node, Source::Containerd)?
                .histogram(CONTAINERD, "operation_type=\"set_up_pod\""),
            barrier: [told, timeout, disconnected, daemon.sum(SKIPPED, "")],
        })
    }

    fn since(&self, before: &Self) -> Self {
        let mut barrier = self.barrier;
        barrier.iter_mut().zip(before.barrier).for_each(|(now, before)| *now -= before);
        Self {
            add: self.add.since(&before.add),
            with_barrier: self.with_barrier.since(&before.with_barrier),
            data_path: self.data_path.since(&before.data_path),
            row: self.row.since(&before.row),
            containerd: self.containerd.since(&before.containerd),
            barrier,
        }
    }

    fn report(&self, report: &mut Report) {
        let p99 = |histogram| milliseconds(histogram, 0.99);
        let row = Row::new("ADD in the daemon, without the barrier, 99 of 100 at most", p99(&self.add), "ms");
        report.add(row.reach(Goal::AtMost(100.0)));
        report.add(Row::new("ADD in the daemon, without the barrier, mean", self.add.mean() * 1000.0, "ms"));
        report.add(Row::new("ADD in the daemon, with the barrier, 99 of 100 at most", p99(&self.with_barrier), "ms"));
        report.add(Row::new("of it waiting for the pod's row, mean", self.row.mean() * 1000.0, "ms"));
        let [told, timeout, disconnected, skipped] = self.barrier;
        report.add(Row::new("barrier: peers were told", told, "ADDs"));
        report.add(Row::new("barrier: timed out", timeout, "ADDs"));
        report.add(Row::new("barrier: no operator", disconnected, "ADDs"));
        report.add(Row::new("barrier: silent nodes that were skipped", skipped, ""));
        report.add(Row::new("all plugins of a pod, seen by containerd, mean", self.containerd.mean() * 1000.0, "ms"));
        report.add(Row::new("all plugins of a pod, 99 of 100 at most", p99(&self.containerd), "ms"));
        report.add(Row::new("ADDs", self.add.count, ""));
        report.remark("values of \"at most\" are bounds of histogram buckets");
    }
}

/// The bound of the bucket in which a quantile lies.
fn milliseconds(histogram: &Histogram, share: f64) -> f64 {
    histogram.quantile(share) * 1000.0
}

/// 50 pods at once on the first node of a cluster.
struct Bursts<'a> {
    api: &'a Api,
    workload: Workload<'a>,
    node: u8,
    name: String,
}

impl<'a> Bursts<'a> {
    fn new(cluster: &Cluster, api: &'a Api) -> Result<Self> {
        let node = *cluster.nodes()?.first().context("the cluster has no nodes")?;
        Ok(Self { api, workload: Workload::new(api, "bench-cni")?, node, name: cluster.folder.node_name(node) })
    }

    /// Pods that come and go one after another.
    fn singles(&self, count: usize) -> Result<()> {
        slow_step(&format!("{count} pods, one after another"), || {
            for number in 0..count {
                let name = format!("single-{number}");
                self.workload.pod(&name, &self.name, PAUSE, &[])?;
                self.workload.ready(&name)?;
                self.api.delete(&format!("{}/{name}", self.workload.path("", "pods")))?;
            }
            Ok(())
        })
    }

    /// Seconds from created to all ready. They are gone when this returns, and what that is for kernel and runtimes is done.
    fn burst(&self, what: &str) -> Result<f64> {
        let seconds = slow_step(what, || {
            let started = Instant::now();
            self.workload.deployment("burst", &self.name, PODS, PAUSE)?;
            self.workload.deployment_ready("burst", PODS, Duration::from_secs(300))?;
            Ok(started.elapsed().as_secs_f64())
        })?;
        step("delete them", || self.workload.deployment_gone("burst"))?;
        step("wait until the machine rests", machine::rest)?;
        Ok(seconds)
    }
}

/// A second cluster, with the bridge plugin and as many nodes, that goes with the measurement.
struct Floor(Cluster);

impl Floor {
    fn up(cluster: &Cluster) -> Result<Self> {
        // Names have at most 7 letters.
        let name: String = format!("br{}", cluster.folder.name).chars().take(7).collect();
        note(&format!("beside it, cluster {name} with the bridge plugin: what the kubelet and containerd cost alone"));
        let floor = Self(Cluster::new(cluster.paths.clone(), &name)?);
        floor.0.up(Shape { cni: Cni::Bridge, ..cluster.folder.expect()?.shape() })?;
        Ok(floor)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            note(&format!("cluster {} was not removed: {error:#}", self.0.folder.name));
        }
    }
}
