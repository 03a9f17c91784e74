//! What many entries of policy cost: packets, with 10,000 entries against none, and the kernel's memory.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::loaded_maps;
use serde_json::{Value, json};

use super::lane::{self, Kind};
use super::programs::Programs;
use super::throughput::{lane_of_pods, two_nodes};
use super::{Goal, Options, Report, Row};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::{PAUSE, TOOLS};
use crate::process::wait_until;
use crate::progress::{slow_step, step};
use crate::reach::inside;
use crate::workload::Workload;

const ROUNDS: usize = 22;
const ENTRIES: u32 = 10_000;
/// Nobody listens there: without a policy, connecting is refused at once; behind one, nothing comes back.
const OTHER_PORT: u16 = 5299;
const SILENCE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// Of which memory is told.
const IDENTITIES: u32 = 10;
const RULES: u32 = 500;

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options, report: &mut Report) -> Result<()> {
    memory(cluster, api, report)?;
    packets(cluster, api, options, report)
}

/// Pods of a few identities on one node: memory is of identities, however many pods they have.
fn memory(cluster: &Cluster, api: &Api, report: &mut Report) -> Result<()> {
    let workload = Workload::new(api, "bench-rules")?;
    let (node, _) = two_nodes(cluster)?;
    let node = cluster.folder.node_name(node);
    let app = |i: u32| format!("app-{i}");
    for i in 0..IDENTITIES {
        // Another one for each: nothing of it is the same.
        let rules = json!([{"from": [{"podSelector": {}}], "ports": ports(RULES)}]);
        let spec = json!({"podSelector": {"matchLabels": {"app": app(i)}}, "ingress": rules});
        workload.policy(&app(i), &spec)?;
    }
    let all_ready =
        |pods| (0..IDENTITIES).try_for_each(|i| workload.deployment_ready(&app(i), pods, Duration::from_secs(300)));
    let before = policy_memory()?;
    let few = slow_step(&format!("{IDENTITIES} pods of {IDENTITIES} identities, {RULES} rules each"), || {
        (0..IDENTITIES).try_for_each(|i| workload.deployment(&app(i), &node, 1, PAUSE))?;
        all_ready(1)?;
        Ok(policy_memory()? - before)
    })?;
    let many = slow_step(&format!("{} pods of them", 3 * IDENTITIES), || {
        (0..IDENTITIES).try_for_each(|i| workload.scale(&app(i), 3))?;
        all_ready(3)?;
        Ok(policy_memory()? - before)
    })?;
    let name = |pods| format!("kernel memory of policy, {pods} pods of {IDENTITIES} identities, {RULES} rules each");
    report.add(Row::new(name(IDENTITIES), few, "MB"));
    report.add(Row::new(name(3 * IDENTITIES), many, "MB"));
    report.add(Row::new("the same, three pods an identity / one", many / few, "").reach(Goal::AtMost(1.01)));
    Ok(())
}

/// What all maps of policy rules and classes on this machine take, in MB.
fn policy_memory() -> Result<f64> {
    let mut seen = HashSet::new();
    let mut bytes = 0.0;
    for map in loaded_maps() {
        let map = map.context("cannot list BPF maps")?;
        if !map.name_as_str().is_some_and(|name| name.starts_with("ax_policy_")) || !seen.insert(map.id()) {
            continue;
        }
        let fd = map.fd().context("a map is gone")?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        let used = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock in fdinfo")?;
        bytes += used.trim().parse::<f64>()?;
    }
    Ok(bytes / 1e6)
}

/// Two pairs of pods across nodes; policies with many entries isolate both pods of one of them.
fn packets(cluster: &Cluster, api: &Api, options: &Options, report: &mut Report) -> Result<()> {
    let programs = Programs::new(&cluster.paths)?;
    let workload = Workload::new(api, "bench-entries")?;
    let (from, to) = two_nodes(cluster)?;
    let pods = [("client", from), ("server", to), ("policed-client", from), ("policed-server", to)];
    for (name, node) in pods {
        workload.pod(name, &cluster.folder.node_name(node), TOOLS, &["infinity"])?;
    }
    step("two pods on each of two nodes", || pods.iter().try_for_each(|(name, _)| workload.ready(name).map(drop)))?;
    let lane = |name, [client, server]: [(&str, u8); 2]| lane_of_pods(cluster, api, &workload, name, client, server);
    let lanes = [lane("without", [pods[0], pods[1]])?, lane("with entries", [pods[2], pods[3]])?];
    slow_step(&format!("{ENTRIES} entries at either end of the other pair"), || {
        let select = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
        let policy = |pod: &str, kind: &str, rules: &str, rule: Value| {
            let mut spec = select(pod);
            spec["policyTypes"] = json!([kind]);
            spec[rules] = json!([rule]);
            workload.policy(pod, &spec)
        };
        let ingress = json!({"from": [select("policed-client")], "ports": ports(ENTRIES)});
        policy("policed-server", "Ingress", "ingress", ingress)?;
        let egress = json!({"to": [select("policed-server")], "ports": ports(ENTRIES)});
        policy("policed-client", "Egress", "egress", egress)?;
        let target = SocketAddr::new(lanes[1].address, OTHER_PORT);
        let silent = || {
            let answer = inside(&lanes[1].client.network, || TcpStream::connect_timeout(&target, SILENCE));
            answer.is_ok_and(|answer| answer.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut))
        };
        if !wait_until(PATIENCE, silent) {
            bail!("the policies are not enforced");
        }
        Ok(())
    })?;
    let kinds = [Kind::PingPong, Kind::Connections];
    let samples = lane::measure(&lanes, &kinds, options.rounds(ROUNDS), &programs)?;
    let ratio = |kind| samples.ratios("with entries", "without", kind);
    for (kind, what, unit) in [(Kind::PingPong, "TCP ping-pong", "us"), (Kind::Connections, "new connections", "1/s")] {
        for lane in &lanes {
            report.add(Row::median(format!("{what}, {}", lane.name), samples.of(lane.name, kind), unit));
        }
    }
    let row = Row::median(format!("TCP ping-pong, with {ENTRIES} entries / without"), &ratio(Kind::PingPong), "");
    report.add(row.reach(Goal::AtMost(1.01)));
    let row = Row::median(format!("new connections, with {ENTRIES} entries / without"), &ratio(Kind::Connections), "");
    report.add(row.reach(Goal::AtLeast(0.95)));
    Ok(())
}

/// So many ports of which no two make a range, those that are measured among them.
fn ports(count: u32) -> Value {
    let measured = [Kind::PingPong, Kind::Connections].map(|kind| u32::from(kind.port()));
    let others = (0..count).map(|i| 20_001 + 2 * i).filter(|port| *port <= u32::from(u16::MAX));
    let low = (1..).step_by(2).take_while(|port| *port < 5_000);
    let all = measured.into_iter().chain(others).chain(low).take(count as usize);
    all.map(|port| json!({"protocol": "TCP", "port": port})).collect()
}
