//! New TCP connections per second, pod to pod across nodes with policies at both ends, against two hosts without programs and
//! against the least that any data path can do.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::lane::{self, Kind};
use super::limit::Yardsticks;
use super::programs::Programs;
use super::throughput::{pods, two_nodes};
use super::{Goal, Options, Report, Row, Set, routing};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::metrics::Source;
use crate::process::wait_until;
use crate::progress::step;
use crate::reach::inside;
use crate::workload::Workload;

const ROUNDS: usize = 22;
/// Nobody listens there: without a policy, connecting is refused at once; behind one, nothing comes back.
const OTHER_PORT: u16 = 5299;
const SILENCE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let routing = routing(cluster, api)?;
    let programs = Programs::new(&cluster.paths)?;
    let workload = Workload::new(api, "bench-conn")?;
    let pods = pods(cluster, api, &workload)?;
    step("a policy at the server and one at the client", || {
        enforce(cluster, &workload, &pods.client.network, pods.address)
    })?;
    let yardsticks = Yardsticks::new(cluster, &programs, routing)?;
    let lanes = [pods, yardsticks.limit(cluster)?, yardsticks.host(cluster)?];
    let kind = Kind::Connections;
    let samples = lane::measure(&lanes, &[kind], options.rounds(ROUNDS), &programs)?;

    let mut report = Report::routed(Set::Connections, routing);
    for lane in &lanes {
        report.add(Row::median(format!("new TCP connections, {}", lane.name), samples.of(lane.name, kind), "1/s"));
    }
    let ratio = |ours, theirs| samples.ratios(ours, theirs, kind);
    let row = Row::median("new TCP connections, pod / host", &ratio("pod to pod", "host to host"), "");
    report.add(row.reach(Goal::AtLeast(0.85)));
    let row = Row::median("new TCP connections, pod / limit", &ratio("pod to pod", "limit"), "");
    report.add(row.reach(Goal::AtLeast(0.90)));
    report.add(Row::median("new TCP connections, limit / host", &ratio("limit", "host to host"), ""));
    Ok(report)
}

/// Applies a policy at either end, and waits until each is seen to be in force.
fn enforce(cluster: &Cluster, workload: &Workload<'_>, client: &File, server: IpAddr) -> Result<()> {
    let select = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
    let ports = json!([{"protocol": "TCP", "port": Kind::Connections.port()}]);
    let at = |app: &str, kind: &str, rules: &str, rule: serde_json::Value| {
        let mut spec = select(app);
        spec["policyTypes"] = json!([kind]);
        spec[rules] = json!([rule]);
        workload.policy(app, &spec)
    };
    let silent = || {
        let target = SocketAddr::new(server, OTHER_PORT);
        let answer = inside(client, || TcpStream::connect_timeout(&target, SILENCE));
        answer.is_ok_and(|answer| answer.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut))
    };
    at("server", "Ingress", "ingress", json!({"from": [select("client")], "ports": ports}))?;
    if !wait_until(PATIENCE, silent) {
        bail!("the server's policy is not enforced");
    }
    let (from, _) = two_nodes(cluster)?;
    let dropped = || {
        let metrics = cluster.node_metrics(from, Source::Daemon).ok()?;
        Some(metrics.sum("cilium_drop_count_total", "direction=\"EGRESS\""))
    };
    let before = dropped();
    at("client", "Egress", "egress", json!({"to": [select("server")], "ports": ports}))?;
    // From now on the client's own node drops what the server's did.
    if !wait_until(PATIENCE, || silent() && dropped() > before) {
        bail!("the client's policy is not enforced");
    }
    Ok(())
}
