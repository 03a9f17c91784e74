//! Lanes: ways that packets go, measured against each other. Rounds are interleaved and begin with another lane each time, so
//! that what the machine does meanwhile hits all of them alike; client and server are pinned to different CPUs, because where
//! the scheduler puts them decides more than what is measured.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

use super::programs::Programs;
use super::statistics::ratios;
use crate::process::{join_cgroup, wait_until};
use crate::progress::{note, step};
use crate::sandbox::enter_network;

/// Short, so that what is compared is near in time.
const SECONDS: &str = "1";
/// A round of which a hypervisor takes a larger share of CPU time than this is measured again, but no more than there are rounds.
const STOLEN: f64 = 0.01;
const CLIENT_CPU: usize = 0;
const SERVER_CPU: usize = 1;
const TOOLS: &str = "cannot run iperf3 and sockperf; run `make deps`";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// One TCP stream, in Gbit/s.
    Stream,
    /// One byte there and back over TCP: the median of half the time, in us.
    PingPong,
    /// New TCP connections per second.
    Connections,
}

impl Kind {
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Stream => 5201,
            Self::PingPong => 5202,
            Self::Connections => 5203,
        }
    }
}

/// Where programs of a lane run: in a network namespace, and in the cgroup of the node, where programs that translate at the
/// socket hang.
#[derive(Debug)]
pub(super) struct End {
    pub(super) network: File,
    pub(super) cgroup: PathBuf,
}

impl End {
    fn command(&self, program: impl AsRef<OsStr>, cpu: usize) -> Result<Command> {
        let mut command = Command::new(program);
        join_cgroup(&mut command, &self.cgroup)?;
        enter_network(&mut command, self.network.try_clone()?);
        pin(&mut command, cpu)?;
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// One way that packets go.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: &'static str,
    pub(super) client: End,
    pub(super) server: End,
    /// Where the client reaches the server.
    pub(super) address: IpAddr,
}

/// All values, by lane and kind, in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Samples(HashMap<(&'static str, Kind), Vec<f64>>);

impl Samples {
    pub(super) fn of(&self, lane: &str, kind: Kind) -> &[f64] {
        self.0.iter().find(|((name, k), _)| *name == lane && *k == kind).map_or(&[], |(_, values)| values)
    }

    /// Ratios of two lanes, round by round.
    pub(super) fn ratios(&self, ours: &str, theirs: &str, kind: Kind) -> Vec<f64> {
        ratios(self.of(ours, kind), self.of(theirs, kind))
    }
}

/// Measures `kinds` on `lanes`, in `rounds` rounds.
pub(super) fn measure(lanes: &[Lane], kinds: &[Kind], rounds: usize, programs: &Programs) -> Result<Samples> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("this needs two CPUs");
    }
    let connections = programs.native("connections")?;
    let mut servers = Servers(Vec::new());
    for lane in lanes {
        for kind in kinds {
            servers.start(lane, *kind, &connections)?;
        }
    }
    let mut samples = Samples::default();
    let mut again = rounds;
    for round in 0..rounds {
        step(&format!("round {} of {rounds}", round + 1), || {
            loop {
                let before = CpuTime::read()?;
                let values = measure_once(lanes, kinds, round, &connections)?;
                if again > 0 && CpuTime::read()?.stolen_since(&before) > STOLEN {
                    again -= 1;
                    continue;
                }
                for (key, value) in values {
                    samples.0.entry(key).or_default().push(value);
                }
                return Ok(());
            }
        })?;
    }
    let repeated = rounds - again;
    if repeated > 0 {
        let limit = if again == 0 { ", and no more were: this machine is not quiet" } else { "" };
        note(&format!("{repeated} rounds in which a hypervisor took CPU time were measured again{limit}"));
    }
    Ok(samples)
}

/// One round: its number says which lane begins.
fn measure_once(
    lanes: &[Lane],
    kinds: &[Kind],
    round: usize,
    connections: &Path,
) -> Result<Vec<((&'static str, Kind), f64)>> {
    let mut values = Vec::new();
    for kind in kinds {
        for turn in 0..lanes.len() {
            let lane = &lanes[(round + turn) % lanes.len()];
            let value = lane.run(*kind, connections).with_context(|| format!("{}, {kind:?}", lane.name))?;
            values.push(((lane.name, *kind), value));
        }
    }
    Ok(values)
}

/// What all CPUs have done since the machine started, in ticks: altogether, and what a hypervisor gave to others meanwhile.
struct CpuTime {
    total: u64,
    stolen: u64,
}

impl CpuTime {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Self::parse(&text).context("/proc/stat tells no time of CPUs")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user and nice.
        Some(Self { total: ticks.iter().take(8).sum(), stolen: *ticks.get(7)? })
    }

    fn stolen_since(&self, before: &Self) -> f64 {
        (self.stolen - before.stolen) as f64 / (self.total - before.total).max(1) as f64
    }
}

/// Servers that end with the measurement.
struct Servers(Vec<Child>);

impl Servers {
    fn start(&mut self, lane: &Lane, kind: Kind, connections: &Path) -> Result<()> {
        let port = kind.port().to_string();
        let mut command = match kind {
            Kind::Stream => lane.server.command("iperf3", SERVER_CPU)?,
            Kind::PingPong => lane.server.command("sockperf", SERVER_CPU)?,
            Kind::Connections => lane.server.command(connections, SERVER_CPU)?,
        };
        match kind {
            Kind::Stream => command.args(["-s", "-p", &port]),
            Kind::PingPong => command.args(["server", "--tcp", "-p", &port]),
            Kind::Connections => command.args(["serve", &port]),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context(TOOLS)?;
        let pid = child.id();
        self.0.push(child);
        if !wait_until(Duration::from_secs(10), || listens(pid, kind.port())) {
            bail!("the server of {}, {kind:?}, does not listen on port {port}", lane.name);
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether somebody listens on a TCP port in the network namespace of a process.
fn listens(pid: u32, port: u16) -> bool {
    let table = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    [table("tcp"), table("tcp6")].iter().flat_map(|table| table.lines()).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A: listening.
        fields.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && fields.get(3) == Some(&"0A")
    })
}

impl Lane {
    fn run(&self, kind: Kind, connections: &Path) -> Result<f64> {
        let (address, port) = (self.address.to_string(), kind.port().to_string());
        match kind {
            Kind::Stream => {
                let mut command = self.client.command("iperf3", CLIENT_CPU)?;
                command.args(["-c", &address, "-p", &port, "-t", SECONDS, "-O", "1", "-J"]);
                let answer: Value = serde_json::from_str(&run(command)?).context("iperf3 answers with no JSON")?;
                let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
                Ok(bits.with_context(|| format!("iperf3: {}", answer["error"]))? / 1e9)
            }
            Kind::PingPong => {
                let mut command = self.client.command("sockperf", CLIENT_CPU)?;
                command.args(["ping-pong", "--tcp", "-i", &address, "-p", &port, "-t", SECONDS]);
                let answer = run(command)?;
                // The mean is what the machine did beside: a few packets that waited for a CPU.
                let median = answer.split("percentile 50.000 =").nth(1).and_then(|rest| rest.split_whitespace().next());
                Ok(median.with_context(|| format!("sockperf: {answer}"))?.parse()?)
            }
            Kind::Connections => {
                let mut command = self.client.command(connections, CLIENT_CPU)?;
                let answer = run_or_say(command.args([&address, &port, SECONDS]))?;
                answer.trim().parse().with_context(|| format!("connections: {answer}"))
            }
        }
    }
}

/// What a client prints; those that fail say why there.
fn run(mut command: Command) -> Result<String> {
    let output = command.output().context(TOOLS)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run_or_say(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run the client")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let time =
            |steal, guest| CpuTime::parse(&format!("cpu  10 0 20 60 5 0 5 {steal} {guest} 0\ncpu0 1 1\n")).unwrap();
        let (before, after) = (time(0, 0), time(25, 9));
        assert_eq!((before.total, after.total), (100, 125));
        assert_eq!(after.stolen_since(&before), 1.0);
        assert_eq!(before.stolen_since(&before), 0.0);
        assert!(CpuTime::parse("cpu 1 2 3").is_none());
    }
}
