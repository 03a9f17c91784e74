//! Two pods on one node against a host's loopback device.

use anyhow::Result;

use super::lane::{self, Kind};
use super::limit::Yardsticks;
use super::programs::Programs;
use super::throughput::{lane_of_pods, two_nodes};
use super::{Options, Report, Row, Set, routing};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::TOOLS;
use crate::progress::step;
use crate::workload::Workload;

const ROUNDS: usize = 22;

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let programs = Programs::new(&cluster.paths)?;
    let workload = Workload::new(api, "bench-local")?;
    let (node, _) = two_nodes(cluster)?;
    for name in ["client", "server"] {
        workload.pod(name, &cluster.folder.node_name(node), TOOLS, &["infinity"])?;
    }
    step("two pods on one node", || workload.ready("client").and(workload.ready("server")))?;
    let yardsticks = Yardsticks::new(cluster, &programs, routing(cluster, api)?)?;
    let pods = lane_of_pods(cluster, api, &workload, "pod to pod", ("client", node), ("server", node))?;
    let lanes = [pods, yardsticks.loopback(cluster)?];
    let kinds = [Kind::Stream, Kind::PingPong];
    let samples = lane::measure(&lanes, &kinds, options.rounds(ROUNDS), &programs)?;

    let mut report = Report::new(Set::Local);
    for (kind, what, unit) in [(Kind::Stream, "one TCP stream", "Gbit/s"), (Kind::PingPong, "TCP ping-pong", "us")] {
        for lane in &lanes {
            report.add(Row::median(format!("{what}, {}", lane.name), samples.of(lane.name, kind), unit));
        }
        let ratios = samples.ratios("pod to pod", "host loopback", kind);
        report.add(Row::median(format!("{what}, pod / loopback"), &ratios, ""));
    }
    Ok(report)
}
