//! Measurements. Each set prints a table and writes the same as JSON, a list of rows, to `target/bench/SET.json`
//! (`SET-native.json` where packets are routed natively and that matters). What can be
//! compared is measured side by side in one run; a baseline is a recorded figure of Cilium 1.20-dev on a 2-core machine.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::progress::{Colour, heading, note, paint};
use crate::state::Routing;
use crate::table::{Cell, plain, render};

mod cni;
mod cold_start;
mod connections;
mod daemon;
mod identity;
mod images;
mod lane;
mod limit;
mod local;
mod policy;
mod programs;
mod restart;
mod statistics;
mod stream;
mod throughput;
mod watches;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// Memory of the node daemon.
    Daemon,
    /// Watches at the API server, by who holds them.
    Watches,
    /// Sizes of the images.
    Images,
    /// Pods from created to ready, against the bridge plugin, and CNI ADD.
    Cni,
    /// From a policy written to the first packet judged by it.
    Policy,
    /// TCP streams and ping-pong, pod to pod against host to host and the limit.
    Throughput,
    /// New TCP connections, pod to pod with policies against host to host and the limit.
    Connections,
    /// Two pods on one node against a host's loopback.
    Local,
    /// First packets of new pods that were judged by a wrong identity.
    Identity,
    /// The node daemon killed, with 50 pods.
    Restart,
    /// From the start of a new node's daemon to its network.
    ColdStart,
}

impl Set {
    /// All, the quick ones first; those that change the cluster last.
    pub const ALL: [Self; 11] = [
        Self::Watches,
        Self::Images,
        Self::Daemon,
        Self::Policy,
        Self::Local,
        Self::Throughput,
        Self::Connections,
        Self::Cni,
        Self::Identity,
        Self::Restart,
        Self::ColdStart,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Watches => "watches",
            Self::Images => "images",
            Self::Cni => "cni",
            Self::Policy => "policy",
            Self::Throughput => "throughput",
            Self::Connections => "connections",
            Self::Local => "local",
            Self::Identity => "identity",
            Self::Restart => "restart",
            Self::ColdStart => "cold-start",
        }
    }
}

/// How to measure.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// So many rounds instead of those that the figures need: to see that it works.
    #[arg(long)]
    pub rounds: Option<usize>,
}

impl Options {
    fn rounds(&self, needed: usize) -> usize {
        self.rounds.unwrap_or(needed).max(1)
    }
}

/// How the cluster's packets travel between nodes: what it was installed with.
fn routing(api: &Api) -> Result<Routing> {
    let config = api.get("/api/v1/namespaces/kube-system/configmaps/axoneme-config")?;
    let settings = config["data"]["operator.yaml"].as_str().context("axoneme-config has no operator.yaml")?;
    let settings: Value = serde_yaml::from_str(settings).context("operator.yaml of axoneme-config")?;
    match settings["routingMode"].as_str() {
        Some("tunnel") => Ok(Routing::Tunnel),
        Some("native") => Ok(Routing::Native),
        other => bail!("axoneme-config has the routing mode {other:?}"),
    }
}

/// What a figure shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    set: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// What it shall reach, like `<= 1.19`.
    reach: Option<String>,
    /// Whether it does.
    holds: Option<bool>,
    /// Cilium's figure.
    baseline: Option<f64>,
    /// Where the median lies with a confidence of 95 %, where the value is one of enough rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<(f64, f64)>,
}

impl Row {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let value = rounded(value);
        Self { set: "", name: name.into(), value, unit, reach: None, holds: None, baseline: None, interval: None }
    }

    /// The median of all rounds.
    fn median(name: impl Into<String>, values: &[f64], unit: &'static str) -> Self {
        let interval = statistics::median_interval(values).map(|(low, high)| (rounded(low), rounded(high)));
        Self { interval, ..Self::new(name, statistics::median(values), unit) }
    }

    fn reach(mut self, goal: Goal) -> Self {
        self.reach = Some(match goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
        });
        self.holds = Some(goal.holds(self.value));
        self
    }

    fn baseline(self, baseline: f64) -> Self {
        Self { baseline: Some(baseline), ..self }
    }

    fn cells(&self) -> Vec<Cell> {
        let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n}"));
        let interval = self.interval.map_or(String::new(), |(low, high)| format!("{low} to {high}"));
        let verdict = match self.holds {
            Some(true) => ("✓".to_owned(), Some(Colour::Green)),
            Some(false) => ("✗".to_owned(), Some(Colour::Red)),
            None => plain(""),
        };
        let reach = self.reach.clone().unwrap_or_default();
        let before = [self.name.clone(), number(Some(self.value)), self.unit.to_owned(), interval, reach].map(plain);
        before.into_iter().chain([verdict, plain(number(self.baseline))]).collect()
    }
}

/// To a thousandth. Adding zero makes a sum over nothing, which is -0, a plain 0.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0 + 0.0
}

/// The figures of one set.
#[derive(Debug)]
pub struct Report {
    set: Set,
    rows: Vec<Row>,
    remarks: Vec<String>,
    /// Where the figures depend on it.
    routing: Option<Routing>,
}

impl Report {
    fn new(set: Set) -> Self {
        Self { set, rows: Vec::new(), remarks: Vec::new(), routing: None }
    }

    fn add(&mut self, row: Row) {
        let name = match self.routing {
            Some(Routing::Tunnel) => format!("vxlan: {}", row.name),
            Some(Routing::Native) => format!("native: {}", row.name),
            None => row.name.clone(),
        };
        self.rows.push(Row { set: self.set.name(), name, ..row });
    }

    fn routed(set: Set, routing: Routing) -> Self {
        Self { routing: Some(routing), ..Self::new(set) }
    }

    /// A sentence below the table, for what a reader of the figures must know.
    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    fn print(&self) {
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let heading = ["figure", "value", "unit", "95 % interval", "reach", "holds", "baseline"];
        println!("\n{}", render(&heading, &rows));
        self.remarks.iter().for_each(|remark| note(remark));
    }

    fn write(&self, cluster: &Cluster) -> Result<PathBuf> {
        let dir = cluster.paths.reports("bench");
        std::fs::create_dir_all(&dir)?;
        // Figures of one way of routing do not replace those of the other.
        let suffix = if self.routing == Some(Routing::Native) { "-native" } else { "" };
        let file = dir.join(format!("{}{suffix}.json", self.set.name()));
        std::fs::write(&file, serde_json::to_vec_pretty(&self.rows)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

/// Measures one set, or all of them: one that fails does not keep the others from being measured. False if anything failed or
/// a goal was missed.
pub fn run(cluster: &Cluster, set: Option<Set>, options: &Options) -> Result<bool> {
    let Some(set) = set else {
        let mut hold = true;
        for set in Set::ALL {
            hold &= run(cluster, Some(set), options).unwrap_or_else(|error| {
                eprintln!("{}", paint(Colour::Red, &format!("{}: {error:#}", set.name())));
                false
            });
        }
        return Ok(hold);
    };
    heading(&format!("Measuring: {}", set.name()));
    let api = cluster.api()?;
    let mut report = match set {
        Set::Daemon => daemon::measure(cluster, &api),
        Set::Watches => watches::measure(cluster, &api),
        Set::Images => images::measure(cluster),
        Set::Cni => cni::measure(cluster, &api, options),
        Set::Policy => policy::measure(cluster, &api, options),
        Set::Throughput => throughput::measure(cluster, &api, options),
        Set::Connections => connections::measure(cluster, &api, options),
        Set::Local => local::measure(cluster, &api, options),
        Set::Identity => identity::measure(cluster, &api, options),
        Set::Restart => restart::measure(cluster, &api, options),
        Set::ColdStart => cold_start::measure(cluster, &api, options),
    }?;
    if options.rounds.is_some() {
        report.remark("fewer rounds than figures need: this shows that it works, not how well");
    }
    report.print();
    note(&format!("{}; baseline: Cilium 1.20-dev as recorded on 2 cores", machine()));
    note(&format!("written to {}", report.write(cluster)?.display()));
    Ok(report.holds())
}

/// The machine that figures are from.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|m| m.1.to_owned()));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {}, Linux {}", model.unwrap_or_else(|| "an unknown CPU".to_owned()), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_readers_of_the_file_expect() {
        let mut report = Report::new(Set::Watches);
        report.add(Row::new("held by nodes", 0.0, "watches").reach(Goal::AtMost(0.0)).baseline(14.0));
        let row = serde_json::to_value(&report.rows[0]).unwrap();
        let expected = serde_json::json!({"set": "watches", "name": "held by nodes", "value": 0.0, "unit": "watches",
            "reach": "<= 0", "holds": true, "baseline": 14.0});
        assert_eq!(row, expected);
        assert!(report.holds());
    }

    #[test]
    fn a_missed_goal_is_seen() {
        let mut report = Report::new(Set::Throughput);
        report.add(Row::median("ratio", &[0.5, 0.7, 0.6, 0.6, 0.6, 0.6], "").reach(Goal::AtLeast(0.7)));
        assert!(!report.holds());
        assert_eq!(report.rows[0].interval, Some((0.5, 0.7)));
    }
}
