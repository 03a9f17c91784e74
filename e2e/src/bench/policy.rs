//! How long a NetworkPolicy takes from the API server's answer to the first connection that is judged by it. Probes are
//! staggered: each tries to connect for at most 50 ms, and one begins about every 3 ms, also while connections are dropped.
//! That is the resolution. Beside it, what many policies cost: to compile, by the operator's own benchmark, and in the data path.
//! And a namespace that gets another label, by another benchmark of the operator's, with an API server of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use super::statistics::quantile;
use super::{Goal, Options, Report, Row, Set, entries, sessions};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images;
use crate::progress::{slow_step, step};
use crate::workload::{Workload, pod_ip};

const ROUNDS: usize = 40;
const PROBES: u32 = 16;
const TIMEOUT: Duration = Duration::from_millis(50);
/// As many attempts in a row must end as the policy wants before it counts as being in force.
const IN_A_ROW: usize = 5;
const PORT: u16 = 8080;

/// When a connection was begun, and whether it came about.
type Attempt = (Instant, bool);

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let nodes = cluster.nodes()?;
    let (first, last) =
        (nodes.first().context("the cluster has no nodes")?, nodes.last().context("the cluster has no nodes")?);
    let workload = Workload::new(api, "bench-policy")?;
    let agnhost = images::agnhost_name(&cluster.paths)?;
    workload.pod("client", &cluster.folder.node_name(*first), &agnhost, &["pause"])?;
    workload.pod(
        "server",
        &cluster.folder.node_name(*last),
        &agnhost,
        &["netexec", "--http-port=8080", "--udp-port=-1"],
    )?;
    let (client, server) =
        step("a client and a server on two nodes", || Ok((workload.ready("client")?, workload.ready("server")?)))?;
    let target = SocketAddr::new(pod_ip(&server)?, PORT);
    let network = cluster.pod_network(&client)?;

    let stop = AtomicBool::new(false);
    let (applied, removed) = std::thread::scope(|scope| {
        let (sender, attempts) = channel();
        for i in 0..PROBES {
            let (network, sender, stop) = (network.try_clone(), sender.clone(), &stop);
            scope.spawn(move || probe(network?, target, TIMEOUT / PROBES * i, &sender, stop));
        }
        let result = rounds(&workload, &attempts, options.rounds(ROUNDS));
        stop.store(true, Ordering::Relaxed);
        result
    })?;

    let mut report = Report::new(Set::Policy);
    // Cilium's median and slowest of 20.
    for (name, values, peer) in [("applied", &applied, (142.0, 193.0)), ("removed", &removed, (134.0, 178.0))] {
        let row = Row::median(format!("written to judged, {name}, half of them at most"), values, "ms");
        report.add(row.reach(Goal::AtMost(20.0)).baseline(peer.0));
        let row = Row::new(format!("written to judged, {name}, 99 of 100 at most"), quantile(values, 0.99), "ms");
        report.add(row.reach(Goal::AtMost(60.0)).baseline(peer.1));
        report
            .add(Row::new(format!("written to judged, {name}, slowest"), quantile(values, 1.0), "ms").baseline(peer.1));
    }
    report.add(Row::new("policies written", applied.len() as f64, ""));
    // The pods that were measured with would be in the way.
    drop(workload);
    entries::measure(cluster, api, options, &mut report)?;
    for (bench, arguments) in [("compile", &["--figures"][..]), ("relabel", &[])] {
        sessions::figures(cluster, bench, arguments)?.into_iter().for_each(|row| report.add(row));
    }
    Ok(report)
}

fn rounds(workload: &Workload<'_>, attempts: &Receiver<Attempt>, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let closed = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]});
    let (mut applied, mut removed) = (Vec::new(), Vec::new());
    slow_step(&format!("{rounds} policies applied and removed"), || {
        wait(attempts, Instant::now(), true).context("the client does not reach the server without a policy")?;
        for round in 0..rounds {
            // Not in step with anything that has a period.
            let pause = Duration::from_millis(300 + (round as u64 * 37) % 100);
            workload.policy("closed", &closed)?;
            applied.push(wait(attempts, Instant::now(), false).context("the policy is not enforced")?);
            std::thread::sleep(pause);
            workload.remove_policy("closed")?;
            removed.push(wait(attempts, Instant::now(), true).context("the policy is enforced after its deletion")?);
            std::thread::sleep(pause);
        }
        Ok(())
    })?;
    Ok((applied, removed))
}

/// Milliseconds from `written` to the begin of the first of [`IN_A_ROW`] attempts, ordered by their begin, that all ended
/// as wanted.
fn wait(attempts: &Receiver<Attempt>, written: Instant, wanted: bool) -> Result<f64> {
    let mut after: Vec<Attempt> = Vec::new();
    while written.elapsed() < Duration::from_secs(20) {
        let attempt = attempts.recv_timeout(Duration::from_secs(1)).context("no probe reports")?;
        if attempt.0 < written {
            continue;
        }
        after.push(attempt);
        after.sort_by_key(|(begin, _)| *begin);
        // An attempt that began earlier may still be under way; by this time it has reported.
        let settled: Vec<_> = after.iter().filter(|(begin, _)| begin.elapsed() > TIMEOUT * 2).collect();
        if let Some(run) = settled.windows(IN_A_ROW).find(|run| run.iter().all(|(_, open)| *open == wanted)) {
            return Ok(run[0].0.duration_since(written).as_secs_f64() * 1000.0);
        }
    }
    bail!("nothing changed within 20 seconds")
}

fn probe(
    network: File,
    target: SocketAddr,
    delay: Duration,
    attempts: &Sender<Attempt>,
    stop: &AtomicBool,
) -> Result<()> {
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
    std::thread::sleep(delay);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let open = TcpStream::connect_timeout(&target, TIMEOUT).is_ok();
        if attempts.send((begin, open)).is_err() {
            break;
        }
        std::thread::sleep(TIMEOUT.saturating_sub(begin.elapsed()));
    }
    Ok(())
}
