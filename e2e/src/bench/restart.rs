//! The node daemon killed, again and again, on a node with 50 pods. How long until it has reconciled counts from the start of
//! its new process; how long the kubelet takes to start that is reported apart (it backs off, longer each time).
//!
//! Reconciled means all of: `/readyz` says so (pods can be attached), every attached pod is known again, the desired state is
//! at least as new as before the kill, all of it was tried in the kernel, and nothing of it fails.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::daemon::PROGRAM;
use super::statistics::quantile;
use super::stream::{self, Way};
use super::throughput::two_nodes;
use super::{Goal, Options, Report, Row, Set};
use crate::api::Api;
use crate::cgroup::{Hierarchies, processes_below};
use crate::cluster::Cluster;
use crate::images::{PAUSE, TOOLS};
use crate::metrics::{Metrics, Source};
use crate::process::ProcessId;
use crate::progress::slow_step;
use crate::workload::{Workload, pod_ip};

const PODS: u32 = 50;
const KILLS: usize = 4;
/// The kubelet's back-off after the fourth kill is 40 s.
const PATIENCE: Duration = Duration::from_secs(120);
const HEALTH: u16 = 9879;

/// What one kill cost, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// From the kill to the new process.
    kubelet: f64,
    /// From the start of the new process until its loader, a process of its own, was done with the programs.
    loaded: f64,
    /// From the start of the new process until pods can be attached.
    ready: f64,
    /// From the start of the new process.
    reconciled: f64,
}

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let (node, other) = two_nodes(cluster)?;
    let workload = Workload::new(api, "bench-kill")?;
    let name = |index| cluster.folder.node_name(index);
    workload.pod("near", &name(node), TOOLS, &["infinity"])?;
    workload.pod("far", &name(other), TOOLS, &["infinity"])?;
    let (near, far) = slow_step(&format!("{PODS} pods on one node"), || {
        // The pod that streams end at is one of them.
        workload.deployment("idle", &name(node), PODS - 1, PAUSE)?;
        workload.deployment_ready("idle", PODS - 1, Duration::from_secs(300))?;
        Ok((workload.ready("near")?, workload.ready("far")?))
    })?;
    let way = |from: &Value, to: &Value| -> Result<Way> {
        Ok(Way { from: cluster.pod_network(from)?, to: cluster.pod_network(to)?, target: pod_ip(to)? })
    };
    let count = options.rounds(KILLS);
    let (kills, streams) = stream::during(&[way(&near, &far)?, way(&far, &near)?], || {
        (1..=count)
            .map(|n| slow_step(&format!("kill {n} of {count}: until it has reconciled"), || kill(cluster, node)))
            .collect::<Result<Vec<_>>>()
    })?;

    let mut report = Report::new(Set::Restart);
    let all = |value: fn(&Kill) -> f64| kills.iter().map(value).collect::<Vec<_>>();
    let slowest = |value| quantile(&all(value), 1.0);
    let row = Row::new(format!("new process to reconciled, {PODS} pods, slowest"), slowest(|k| k.reconciled), "ms");
    report.add(row.reach(Goal::AtMost(300.0)));
    report.add(Row::median("new process to reconciled, median", &all(|k| k.reconciled), "ms"));
    report.add(Row::new("of it until the programs were loaded, slowest", slowest(|k| k.loaded), "ms"));
    report.add(Row::new("new process to pods can be attached, slowest", slowest(|k| k.ready), "ms"));
    let first = kills.first().map_or(f64::NAN, |k| k.kubelet);
    report.add(Row::new("killed to new process (the kubelet), first time", first, "ms"));
    report.add(Row::new("kills", kills.len() as f64, ""));
    let lost: u64 = streams.iter().map(|s| s.lost).sum();
    report.add(Row::new("datagrams lost of a stream each way, 1 ms apart", lost as f64, "").reach(Goal::AtMost(0.0)));
    report.add(Row::new("datagrams sent", streams.iter().map(|s| s.sent).sum::<u64>() as f64, ""));
    let late = streams.iter().map(|s| s.late).max().unwrap_or_default();
    report.remark(format!("a sender was late by {} ms at most", late.as_millis()));
    report.remark("a process's start is known to 10 ms, rounded so that times are never too short");
    Ok(report)
}

fn kill(cluster: &Cluster, node: u8) -> Result<Kill> {
    let before = Known::read(&cluster.node_metrics(node, Source::Daemon)?);
    let daemon = daemon(cluster, node)?;
    let group = pod_group(daemon)?;
    let address = SocketAddr::new(cluster.folder.expect()?.addresses().node(node)[0].addr(), HEALTH);
    let killed = since_boot()?;
    daemon.signal(libc::SIGKILL);
    let again = poll("the kubelet to start the daemon again", || oldest(&group, daemon))?;
    let started = start(again);
    let lasted = || anyhow::Ok((since_boot()? - started).as_secs_f64() * 1000.0);
    let mut loaded = 0.0;
    poll("the daemon to be ready", || {
        if loader(&group, again) {
            loaded = lasted().ok()?;
        }
        is_ready(address).then_some(())
    })?;
    let ready = lasted()?;
    poll("the daemon to have reconciled", || {
        let metrics = cluster.node_metrics(node, Source::Daemon).ok()?;
        Known::read(&metrics).has_reconciled(before).then_some(())
    })?;
    let reconciled = lasted()?;
    if !again.alive() {
        bail!("the daemon ended once more");
    }
    Ok(Kill { kubelet: started.saturating_sub(killed).as_secs_f64() * 1000.0, loaded, ready, reconciled })
}

/// What a daemon says about how far the kernel follows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    received: f64,
    attempted: f64,
    failing: f64,
    endpoints: f64,
}

impl Known {
    fn read(metrics: &Metrics) -> Self {
        Self {
            received: metrics.sum("axoneme_revision_received", ""),
            attempted: metrics.sum("axoneme_revision_attempted", ""),
            failing: metrics.sum("axoneme_failing_entries", ""),
            endpoints: metrics.sum("cilium_endpoint_state", "endpoint_state=\"ready\""),
        }
    }

    fn has_reconciled(self, before: Self) -> bool {
        self.received >= before.received
            && self.attempted >= self.received
            && self.failing == 0.0
            && self.endpoints >= before.endpoints
    }
}

/// The node's daemon; the loader, which has the same name, is its child.
pub(super) fn daemon(cluster: &Cluster, node: u8) -> Result<ProcessId> {
    let all = cluster.programs(PROGRAM, &[node])?;
    all.into_iter().min_by_key(|p| p.started).with_context(|| format!("node {node} runs no {PROGRAM}"))
}

/// The cgroup of the pod that a process of a container belongs to.
fn pod_group(process: ProcessId) -> Result<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).context("the daemon ended")?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup of version 2")?;
    let container = Hierarchies::find()?.v2().join(path);
    Ok(container.parent().context("a container has a pod")?.to_owned())
}

/// The first process of the program below a cgroup, other than `old`.
fn oldest(group: &std::path::Path, old: ProcessId) -> Option<ProcessId> {
    let all = processes_below(group).into_iter().filter(|p| *p != old && p.name() == PROGRAM);
    all.min_by_key(|p| p.started)
}

/// Whether the daemon's loader runs.
fn loader(group: &std::path::Path, daemon: ProcessId) -> bool {
    processes_below(group).into_iter().any(|p| p != daemon && p.name() == PROGRAM)
}

fn poll<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(value) = there() {
            return Ok(value);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("waited {} s for {what}", PATIENCE.as_secs())
}

/// On the clock that processes' starts are counted on.
pub(super) fn since_boot() -> Result<Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives during the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot read the clock");
    }
    Ok(Duration::new(u64::try_from(now.tv_sec)?, u32::try_from(now.tv_nsec)?))
}

/// When a process was started, since boot. Its tick is rounded down.
pub(super) fn start(process: ProcessId) -> Duration {
    // SAFETY: sysconf takes an integer and returns one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(process.started as f64 / ticks as f64)
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(100))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        write!(stream, "GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_not_after_now() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        let age = since_boot().unwrap() - start(own);
        assert!(age < Duration::from_secs(3600), "{age:?}");
    }

    #[test]
    fn reconciled_is_as_new_as_before_and_without_failures() {
        let before = Known { received: 10.0, attempted: 10.0, failing: 0.0, endpoints: 50.0 };
        assert!(before.has_reconciled(before));
        assert!(!Known { received: 9.0, attempted: 9.0, ..before }.has_reconciled(before));
        assert!(!Known { received: 12.0, ..before }.has_reconciled(before));
        assert!(!Known { failing: 1.0, ..before }.has_reconciled(before));
        assert!(!Known { endpoints: 49.0, ..before }.has_reconciled(before));
    }
}
