//! What operators take of their nodes: memory, and CPU time at rest and while pods are made.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::daemon::memory;
use super::{Report, Row, Set};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::PAUSE;
use crate::process::ProcessId;
use crate::progress::slow_step;
use crate::workload::Workload;

const PROGRAM: &str = "axoneme-operator";

/// Pods on each of two nodes.
const PODS: u32 = 50;

/// So long it is watched at rest.
const REST: Duration = Duration::from_secs(30);

/// Ticks a second of the times in `/proc/PID/stat`: part of the kernel's interface, not of its configuration.
const TICKS: f64 = 100.0;

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let nodes = cluster.nodes()?;
    let operators = cluster.programs(PROGRAM, &nodes)?;
    ensure!(!operators.is_empty(), "no node runs {PROGRAM}");
    ensure!(nodes.len() > 1, "the pods need two nodes");
    let mut report = Report::new(Set::Operator);
    report.add(Row::new(format!("RSS of the largest, {} nodes", nodes.len()), largest(&operators)?, "MB"));

    let (before, started) = (cpu(&operators)?, Instant::now());
    slow_step("at rest", || {
        std::thread::sleep(REST);
        Ok(())
    })?;
    let share = |used: f64, time: Duration| used / time.as_secs_f64() * 1000.0;
    report.add(Row::new("CPU of all, at rest", share(cpu(&operators)? - before, started.elapsed()), "m"));

    let workload = Workload::new(api, "bench-operator")?;
    let names = ["a", "b"];
    let (before, started) = (cpu(&operators)?, Instant::now());
    slow_step(&format!("{} pods on two nodes", 2 * PODS), || {
        for (name, node) in names.iter().zip(&nodes) {
            workload.deployment(name, &cluster.folder.node_name(*node), PODS, PAUSE)?;
        }
        names.iter().try_for_each(|name| workload.deployment_ready(name, PODS, Duration::from_secs(300)))
    })?;
    let (used, time) = (cpu(&operators)? - before, started.elapsed());
    report.add(Row::new(format!("CPU of all, while {} pods start", 2 * PODS), share(used, time), "m"));
    report.add(Row::new("CPU time a pod", used * 1000.0 / f64::from(2 * PODS), "ms"));
    report.add(Row::new(format!("RSS of the largest, {} pods", 2 * PODS), largest(&operators)?, "MB"));
    Ok(report)
}

/// Resident memory of the one that has most, which is the leader, in MB.
fn largest(operators: &[ProcessId]) -> Result<f64> {
    let resident = operators.iter().map(|operator| Ok(memory(*operator)?.resident));
    Ok(resident.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max))
}

/// CPU time that all have used, in seconds.
fn cpu(operators: &[ProcessId]) -> Result<f64> {
    operators.iter().map(|operator| used(*operator)).sum()
}

fn used(process: ProcessId) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).context("an operator ended")?;
    // After the name, which may hold anything, stand the state and then numbers; utime and stime are fields 14 and 15 of all.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum::<f64>() / TICKS)
}
