//! The stream of desired state with 500 nodes: what the operator's own benchmark (`operator/benches/stream.rs`) measures, with no
//! cluster at all. Built optimised, which takes its time.

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

pub(super) fn measure(cluster: &Cluster) -> Result<Report> {
    let mut cargo = cargo(&cluster.paths.repository, &cluster.paths.target);
    cargo.args(["bench", "--quiet", "--locked", "--package", "axoneme-operator", "--bench", "stream"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo bench")?;
    if !output.status.success() {
        bail!("the stream's benchmark failed");
    }
    let mut report = Report::new(Set::Stream);
    for line in String::from_utf8(output.stdout)?.lines() {
        let figure: Figure = serde_json::from_str(line).with_context(|| format!("the benchmark says {line:?}"))?;
        let unit = ["s", "MB", "MB/s", "rows", "rows/s", "KB"].into_iter().find(|unit| *unit == figure.unit);
        let row = Row::new(figure.name, figure.value, unit.context("a unit that nobody knows")?);
        report.add(match figure.at_most {
            Some(bound) => row.reach(Goal::AtMost(bound)),
            None => row,
        });
    }
    report.remark("operator and nodes share the machine: nodes decode every row and end TLS on the same CPUs");
    Ok(report)
}
