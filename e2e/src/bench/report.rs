//! Figures as a table and as JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Set, statistics};
use crate::cluster::Cluster;
use crate::progress::{Colour, note};
use crate::state::Routing;
use crate::table::{Cell, plain, render};

/// What a figure shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
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
pub(super) struct Row {
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
    pub(super) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let value = rounded(value);
        Self { set: "", name: name.into(), value, unit, reach: None, holds: None, baseline: None, interval: None }
    }

    /// The median of all rounds.
    pub(super) fn median(name: impl Into<String>, values: &[f64], unit: &'static str) -> Self {
        let interval = statistics::median_interval(values).map(|(low, high)| (rounded(low), rounded(high)));
        Self { interval, ..Self::new(name, statistics::median(values), unit) }
    }

    pub(super) fn reach(mut self, goal: Goal) -> Self {
        self.reach = Some(match goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
        });
        self.holds = Some(goal.holds(self.value));
        self
    }

    pub(super) fn baseline(self, baseline: f64) -> Self {
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
pub(super) struct Report {
    set: Set,
    rows: Vec<Row>,
    remarks: Vec<String>,
    /// Where the figures depend on it.
    routing: Option<Routing>,
}

impl Report {
    pub(super) fn new(set: Set) -> Self {
        Self { set, rows: Vec::new(), remarks: Vec::new(), routing: None }
    }

    pub(super) fn add(&mut self, row: Row) {
        let name = match self.routing {
            Some(Routing::Tunnel) => format!("vxlan: {}", row.name),
            Some(Routing::Native) => format!("native: {}", row.name),
            None => row.name.clone(),
        };
        self.rows.push(Row { set: self.set.name(), name, ..row });
    }

    pub(super) fn routed(set: Set, routing: Routing) -> Self {
        Self { routing: Some(routing), ..Self::new(set) }
    }

    /// A sentence below the table, for what a reader of the figures must know.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    pub(super) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    pub(super) fn print(&self) {
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let heading = ["figure", "value", "unit", "95 % interval", "reach", "holds", "baseline"];
        println!("\n{}", render(&heading, &rows));
        self.remarks.iter().for_each(|remark| note(remark));
    }

    pub(super) fn write(&self, cluster: &Cluster) -> Result<PathBuf> {
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
