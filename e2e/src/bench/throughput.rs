//! One TCP stream and TCP ping-pong, pod to pod across nodes, against the same between the nodes themselves. Rounds are
//! interleaved, so that what the machine does meanwhile hits both; client and server are pinned to different CPUs, because
//! where the scheduler puts them decides more than what is measured.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Goal, Report, Set, median};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::TOOLS;
use crate::progress::step;
use crate::workload::{Workload, pod_ip};

const ROUNDS: usize = 8;
const SECONDS: &str = "2";
const CLIENT_CPU: usize = 0;
const SERVER_CPU: usize = 1;

/// Makes a command that runs at the client's (false) or the server's (true) end.
type AtEnd<'a> = Box<dyn Fn(bool, &str) -> Result<Command> + 'a>;

/// One way that packets go.
struct Lane<'a> {
    name: &'static str,
    address: String,
    port: u16,
    command: AtEnd<'a>,
    gigabits: Vec<f64>,
    microseconds: Vec<f64>,
}

/// Servers that end with the measurement.
struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let nodes = cluster.nodes()?;
    let (&from, &to) = nodes.first().zip(nodes.get(1)).context("this needs two nodes")?;
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("this needs two CPUs");
    }
    let workload = Workload::new(api, "bench-net")?;
    workload.pod("client", &cluster.folder.node_name(from), TOOLS, &["infinity"])?;
    workload.pod("server", &cluster.folder.node_name(to), TOOLS, &["infinity"])?;
    let server = step("a pod on each of two nodes", || {
        workload.ready("client")?;
        workload.ready("server")
    })?;
    let pod = |server: bool, program: &str| {
        cluster.pod_command(api, &workload.namespace, if server { "server" } else { "client" }, program)
    };
    let host = |server: bool, program: &str| cluster.node_command(if server { to } else { from }, program);
    let node_address = cluster.folder.expect()?.addresses().node(to)[0].addr().to_string();
    let lane =
        |name, address, port, command| Lane { name, address, port, command, gigabits: vec![], microseconds: vec![] };
    let mut lanes = [
        lane("pod to pod", pod_ip(&server)?.to_string(), 5201, Box::new(pod) as AtEnd<'_>),
        lane("host to host", node_address, 5301, Box::new(host)),
    ];
    let _servers = start_servers(&lanes)?;
    for round in 1..=ROUNDS {
        step(&format!("round {round} of {ROUNDS}"), || lanes.iter_mut().try_for_each(Lane::round))?;
    }
    Ok(report(&lanes))
}

fn report(lanes: &[Lane<'_>; 2]) -> Report {
    let mut report = Report::new(Set::Throughput);
    let [pod, host] = lanes;
    let ratio = |ours: &[f64], theirs: &[f64]| median(&ours.iter().zip(theirs).map(|(a, b)| a / b).collect::<Vec<_>>());
    for lane in lanes {
        report.add(format!("one TCP stream, {}", lane.name), median(&lane.gigabits), "Gbit/s", None, None);
    }
    report.add(
        "one TCP stream, ratio",
        ratio(&pod.gigabits, &host.gigabits),
        "",
        Some(Goal::AtLeast(0.56)),
        Some(0.56),
    );
    for lane in lanes {
        report.add(format!("TCP ping-pong, {}", lane.name), median(&lane.microseconds), "us", None, None);
    }
    let latency = ratio(&pod.microseconds, &host.microseconds);
    report.add("TCP ping-pong, ratio", latency, "", Some(Goal::AtMost(1.19)), Some(1.19));
    report
}

fn start_servers(lanes: &[Lane<'_>]) -> Result<Servers> {
    let mut servers = Servers(Vec::new());
    for lane in lanes {
        let mut stream = (lane.command)(true, "iperf3")?;
        stream.args(["-s", "-p", &lane.port.to_string()]);
        let mut latency = (lane.command)(true, "sockperf")?;
        latency.args(["server", "--tcp", "-p", &(lane.port + 1).to_string()]);
        for mut command in [stream, latency] {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            pin(&mut command, SERVER_CPU)?;
            servers.0.push(command.spawn().context("cannot start iperf3 and sockperf; run `make deps`")?);
        }
    }
    // Both listen within milliseconds, but say so nowhere.
    std::thread::sleep(Duration::from_secs(1));
    Ok(servers)
}

impl Lane<'_> {
    fn round(&mut self) -> Result<()> {
        let mut stream = (self.command)(false, "iperf3")?;
        stream.args(["-c", &self.address, "-p", &self.port.to_string(), "-t", SECONDS, "-O", "1", "-J"]);
        let answer: Value = serde_json::from_str(&self.client(stream)?).context("iperf3 answers with no JSON")?;
        let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
        self.gigabits.push(bits.with_context(|| format!("iperf3, {}: {}", self.name, answer["error"]))? / 1e9);
        let mut latency = (self.command)(false, "sockperf")?;
        let port = (self.port + 1).to_string();
        latency.args(["ping-pong", "--tcp", "-i", &self.address, "-p", &port, "-t", SECONDS]);
        let answer = self.client(latency)?;
        let average = answer.split("avg-latency=").nth(1).and_then(|a| a.split_whitespace().next());
        self.microseconds.push(average.with_context(|| format!("sockperf, {}: {answer}", self.name))?.parse()?);
        Ok(())
    }

    fn client(&self, mut command: Command) -> Result<String> {
        pin(&mut command, CLIENT_CPU)?;
        let output =
            command.stdin(Stdio::null()).output().context("cannot run iperf3 and sockperf; run `make deps`")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Keeps a command on one CPU.
fn pin(command: &mut Command, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    // SAFETY: sched_setaffinity is a system call that reads a mask on the closure's own memory and allocates nothing.
    unsafe {
        command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &set)?));
    }
    Ok(())
}
