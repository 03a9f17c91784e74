//! Measurements. Each set prints a table and writes the same as JSON, a list of rows, to `target/bench/SET.json`
//! (`SET-native.json` where packets are routed natively and that matters). What can be
//! compared is measured side by side in one run; a baseline is a recorded figure of Cilium 1.20-dev on a 2-core machine.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::progress::{Colour, heading, note, paint, step};
use crate::state::Routing;

mod cni;
mod cold_start;
mod connections;
mod daemon;
mod entries;
mod hearing;
mod identity;
mod images;
mod lane;
mod limit;
mod local;
mod operator;
mod policy;
mod programs;
mod report;
mod restart;
mod sessions;
mod statistics;
mod stream;
mod throughput;
mod watches;

use report::{Goal, Report, Row};

/// The begin of the names of namespaces that measurements use.
const PREFIX: &str = "bench-";
const PATIENCE: Duration = Duration::from_secs(300);

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// Memory of the node daemon.
    Daemon,
    /// Watches at the API server, by who holds them.
    Watches,
    /// Memory and CPU time of the operators.
    Operator,
    /// Sizes of the images.
    Images,
    /// Pods from created to ready, against the bridge plugin, and CNI ADD.
    Cni,
    /// From a policy written to the first packet judged by it, and what many policies cost.
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
    /// The operator's stream with 500 nodes; needs no cluster.
    Stream,
}

impl Set {
    /// All, the quick ones first; those that change the cluster last.
    pub const ALL: [Self; 13] = [
        Self::Stream,
        Self::Watches,
        Self::Images,
        Self::Daemon,
        Self::Operator,
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
            Self::Operator => "operator",
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
            Self::Stream => "stream",
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

/// How the cluster's packets travel between nodes: what this project was installed with, or else what the cluster was made for,
/// with another network in it.
fn routing(cluster: &Cluster, api: &Api) -> Result<Routing> {
    let Some(config) = api.find("/api/v1/namespaces/kube-system/configmaps/axoneme-config")? else {
        return Ok(cluster.folder.expect()?.routing);
    };
    let settings = config["data"]["operator.yaml"].as_str().context("axoneme-config has no operator.yaml")?;
    let settings: Value = serde_yaml::from_str(settings).context("operator.yaml of axoneme-config")?;
    match settings["routingMode"].as_str() {
        Some("tunnel") => Ok(Routing::Tunnel),
        Some("native") => Ok(Routing::Native),
        other => bail!("axoneme-config has the routing mode {other:?}"),
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
    let api = || -> Result<Api> {
        let api = cluster.api()?;
        clear(&api)?;
        Ok(api)
    };
    let mut report = match set {
        Set::Daemon => daemon::measure(cluster, &api()?),
        Set::Operator => operator::measure(cluster, &api()?),
        Set::Watches => watches::measure(cluster, &api()?),
        Set::Images => images::measure(cluster),
        Set::Cni => cni::measure(cluster, &api()?, options),
        Set::Policy => policy::measure(cluster, &api()?, options),
        Set::Throughput => throughput::measure(cluster, &api()?, options),
        Set::Connections => connections::measure(cluster, &api()?, options),
        Set::Local => local::measure(cluster, &api()?, options),
        Set::Identity => identity::measure(cluster, &api()?, options),
        Set::Restart => restart::measure(cluster, &api()?, options),
        Set::ColdStart => cold_start::measure(cluster, &api()?, options),
        Set::Stream => sessions::measure(cluster),
    }?;
    if options.rounds.is_some() {
        report.remark("fewer rounds than figures need: this shows that it works, not how well");
    }
    report.print();
    note(&format!("{}; baseline: Cilium 1.20-dev as recorded on 2 cores", machine()));
    note(&format!("written to {}", report.write(cluster)?.display()));
    Ok(report.holds())
}

/// Waits until nothing is left of the measurement before: pods that end take the CPUs from those that are measured.
fn clear(api: &Api) -> Result<()> {
    let left = |api: &Api| -> Result<Vec<String>> {
        let all = api.list("/api/v1/namespaces")?;
        let names = all.iter().filter_map(|namespace| namespace["metadata"]["name"].as_str());
        Ok(names.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect())
    };
    let before = left(api)?;
    if before.is_empty() {
        return Ok(());
    }
    step("nothing is left of an earlier measurement", || {
        before.iter().try_for_each(|name| api.delete(&format!("/api/v1/namespaces/{name}")))?;
        api.wait("namespaces of earlier measurements to be gone", PATIENCE, |api| {
            Ok(left(api)?.is_empty().then_some(()))
        })
    })
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
