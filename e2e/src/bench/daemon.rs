//! Memory of the node daemon, idle and with pods.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::statistics::median;
use super::{Goal, Report, Row, Set};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::PAUSE;
use crate::process::ProcessId;
use crate::progress::slow_step;
use crate::workload::Workload;

pub(super) const PROGRAM: &str = "axoneme-node";
const PODS: u32 = 50;

/// What a process holds, in MB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: f64,
    anonymous: f64,
}

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let nodes = cluster.nodes()?;
    let daemons = cluster.programs(PROGRAM, &nodes)?;
    if daemons.len() < nodes.len() {
        bail!("{} of {} nodes run {PROGRAM}", daemons.len(), nodes.len());
    }
    let idle = daemons.iter().map(|d| memory(*d)).collect::<Result<Vec<_>>>()?;
    let node = *nodes.first().context("the cluster has no nodes")?;
    let workload = Workload::new(api, "bench-daemon")?;
    let busy = slow_step(&format!("{PODS} pods on one node"), || {
        workload.deployment("idle", &cluster.folder.node_name(node), PODS, PAUSE)?;
        workload.deployment_ready("idle", PODS, Duration::from_secs(300))?;
        // What was needed to set pods up, and is not any more, may be given back.
        std::thread::sleep(Duration::from_secs(5));
        memory(*cluster.programs(PROGRAM, &[node])?.first().context("the daemon is gone")?)
    })?;

    let mut report = Report::new(Set::Daemon);
    let middle = |value: fn(&Memory) -> f64| median(&idle.iter().map(value).collect::<Vec<_>>());
    let row = Row::new(format!("RSS, idle, {} nodes", nodes.len()), middle(|m| m.resident), "MB");
    report.add(row.reach(Goal::AtMost(20.0)).baseline(178.0));
    report.add(Row::new("of it anonymous, idle", middle(|m| m.anonymous), "MB"));
    let row = Row::new(format!("RSS, {PODS} pods"), busy.resident, "MB");
    report.add(row.reach(Goal::AtMost(25.0)).baseline(222.0));
    report.add(Row::new(format!("of it anonymous, {PODS} pods"), busy.anonymous, "MB"));
    Ok(report)
}

pub(super) fn memory(process: ProcessId) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).context("the daemon ended")?;
    let field = |name: &str| -> Result<f64> {
        let line =
            status.lines().find(|l| l.starts_with(name)).with_context(|| format!("no {name} in /proc/PID/status"))?;
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib * 1024.0 / 1e6)
    };
    Ok(Memory { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
}
