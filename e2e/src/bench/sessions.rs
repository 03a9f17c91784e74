//! What the operator's own benchmarks measure, with no cluster at all: the stream of desired state with 500 nodes
//! (`operator/benches/stream.rs`), and others' figures. Built optimised, which takes its time.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Goal, Report, Row, Set};
use crate::cargo::cargo;
use crate::cluster::Cluster;

#[derive(Deserialize)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    at_most: Option<f64>,
}

/// What one of the operator's own benchmarks says.
pub(super) fn figures(cluster: &Cluster, bench: &str, arguments: &[&str]) -> Result<Vec<Row>> {
    let mut cargo = cargo(&cluster.paths.repository, &cluster.paths.target);
    cargo.args(["bench", "--quiet", "--locked", "--package", "axoneme-operator", "--bench", bench, "--"]);
    let output = cargo.args(arguments).stderr(Stdio::inherit()).output().context("cannot run cargo bench")?;
    if !output.status.success() {
        bail!("the operator's benchmark {bench} failed");
    }
    let row = |line: &str| {
        let figure: Figure = serde_json::from_str(line).with_context(|| format!("the benchmark says {line:?}"))?;
        let unit = ["s", "ms", "MB", "MB/s", "rows", "rows/s", "KB", ""].into_iter().find(|unit| *unit == figure.unit);
        let row = Row::new(figure.name, figure.value, unit.context("a unit that nobody knows")?);
        Ok(match figure.at_most {
            Some(bound) => row.reach(Goal::AtMost(bound)),
            None => row,
        })
    };
    String::from_utf8(output.stdout)?.lines().map(row).collect()
}

pub(super) fn measure(cluster: &Cluster) -> Result<Report> {
    let mut report = Report::new(Set::Stream);
    figures(cluster, "stream", &[])?.into_iter().for_each(|row| report.add(row));
    report.remark("operator and nodes share the machine: nodes decode every row and end TLS on the same CPUs");
    Ok(report)
}
