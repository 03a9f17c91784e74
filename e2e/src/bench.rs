//! Measurements. Each set prints a table and writes the same as JSON, a list of rows, to `target/bench/SET.json`. What can be
//! compared is measured side by side in one run; a baseline is a recorded figure of Cilium 1.20-dev on a 2-core machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::progress::{Colour, heading, note};
use crate::table::{Cell, plain, render};

mod cni;
mod daemon;
mod policy;
mod throughput;
mod watches;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// Memory of the node daemon.
    Daemon,
    /// Watches at the API server, by who holds them.
    Watches,
    /// Pods from created to ready, and CNI ADD.
    Cni,
    /// From a policy written to the first packet judged by it.
    Policy,
    /// Throughput and latency, pod to pod against host to host.
    Throughput,
}

impl Set {
    /// All, the quick ones first.
    pub const ALL: [Self; 5] = [Self::Watches, Self::Daemon, Self::Cni, Self::Policy, Self::Throughput];

    fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Watches => "watches",
            Self::Cni => "cni",
            Self::Policy => "policy",
            Self::Throughput => "throughput",
        }
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
}

/// The figures of one set.
#[derive(Debug)]
pub struct Report {
    set: Set,
    rows: Vec<Row>,
}

impl Report {
    fn new(set: Set) -> Self {
        Self { set, rows: Vec::new() }
    }

    fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<Goal>,
        baseline: Option<f64>,
    ) {
        let reach = goal.map(|goal| match goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
        });
        // Adding zero makes a sum over nothing, which is -0, a plain 0.
        let value = (value * 1000.0).round() / 1000.0 + 0.0;
        let holds = goal.map(|goal| goal.holds(value));
        self.rows.push(Row { set: self.set.name(), name: name.into(), value, unit, reach, holds, baseline });
    }

    fn print(&self) {
        let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n}"));
        let row = |row: &Row| -> Vec<Cell> {
            let verdict = match row.holds {
                Some(true) => ("✓".to_owned(), Some(Colour::Green)),
                Some(false) => ("✗".to_owned(), Some(Colour::Red)),
                None => plain(""),
            };
            let cells =
                [&row.name, &number(Some(row.value)), row.unit, &row.reach.clone().unwrap_or_default()].map(plain);
            cells.into_iter().chain([verdict, plain(number(row.baseline))]).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        println!("\n{}", render(&["figure", "value", "unit", "reach", "holds", "baseline"], &rows));
    }

    fn write(&self, cluster: &Cluster) -> Result<PathBuf> {
        let dir = cluster.paths.reports("bench");
        std::fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{}.json", self.set.name()));
        std::fs::write(&file, serde_json::to_vec_pretty(&self.rows)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

/// Measures one set, prints and writes it. False if a goal is missed.
pub fn run(cluster: &Cluster, set: Set) -> Result<bool> {
    heading(&format!("Measuring: {}", set.name()));
    let api = cluster.api()?;
    let report = match set {
        Set::Daemon => daemon::measure(cluster, &api),
        Set::Watches => watches::measure(cluster, &api),
        Set::Cni => cni::measure(cluster, &api),
        Set::Policy => policy::measure(cluster, &api),
        Set::Throughput => throughput::measure(cluster, &api),
    }?;
    report.print();
    note(&format!("{}; baseline: Cilium 1.20-dev as recorded on 2 cores", machine()));
    note(&format!("written to {}", report.write(cluster)?.display()));
    Ok(report.rows.iter().all(|r| r.holds != Some(false)))
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

/// The median; of an even number of values, the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The value below which a share of all lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0), 5.0);
    }

    #[test]
    fn rows_are_what_readers_of_the_file_expect() {
        let mut report = Report::new(Set::Watches);
        report.add("held by nodes", 0.0, "watches", Some(Goal::AtMost(0.0)), Some(14.0));
        let row = serde_json::to_value(&report.rows[0]).unwrap();
        let expected = serde_json::json!({"set": "watches", "name": "held by nodes", "value": 0.0, "unit": "watches",
            "reach": "<= 0", "holds": true, "baseline": 14.0});
        assert_eq!(row, expected);
    }
}
