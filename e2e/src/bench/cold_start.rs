//! How long the daemon of a node that has never had one takes from its process's start, which is the container's, to the file
//! that tells the container runtime of the network. A node joins the cluster and leaves it again, a few times.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::restart::{daemon, since_boot, start};
use super::statistics::quantile;
use super::{Goal, Options, Report, Row, Set};
use crate::api::Api;
use crate::cluster::Cluster;

const ROUNDS: usize = 5;
const CONFLIST: &str = "cni-conf/05-axoneme.conflist";

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let count = cluster.nodes()?.len();
    let rounds = (0..options.rounds(ROUNDS)).map(|_| join(cluster, api)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(Set::ColdStart);
    let row = Row::new(format!("process to CNI ready, beside {count} nodes, slowest"), quantile(&rounds, 1.0), "ms");
    report.add(row.reach(Goal::AtMost(1000.0)));
    report.add(Row::median("process to CNI ready, median", &rounds, "ms"));
    report.add(Row::new("nodes that joined", rounds.len() as f64, ""));
    report.remark("a process's start is known to 10 ms, rounded so that times are never too short");
    Ok(report)
}

/// Milliseconds of a node that joins for this.
fn join(cluster: &Cluster, api: &Api) -> Result<f64> {
    let before = cluster.nodes()?;
    cluster.add_nodes(1)?;
    let new = cluster.nodes()?.into_iter().find(|index| !before.contains(index)).context("no node was added")?;
    let took = cluster.wait_nodes_ready(api, Duration::from_secs(120)).and_then(|()| start_up(cluster, new));
    cluster.remove_node(new)?;
    took
}

fn start_up(cluster: &Cluster, node: u8) -> Result<f64> {
    let file = cluster.folder.node(node).join(CONFLIST);
    let written = std::fs::metadata(&file).and_then(|m| m.modified());
    let written = written.with_context(|| format!("node {node} has no {CONFLIST}"))?;
    let age = since_boot()? - start(daemon(cluster, node)?);
    let started = SystemTime::now() - age;
    // One that was started again after an error is younger than the file.
    let took = written.duration_since(started).context("the daemon did not succeed at its first start")?;
    Ok(took.as_secs_f64() * 1000.0)
}
