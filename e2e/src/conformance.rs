//! Upstream's own tests, run against a cluster: Kubernetes' e2e.test with the specs of SIG Network, and those of ClusterNetworkPolicy.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::gobuild::E2E_TEST;
use crate::lifecycle;
use crate::progress::{Colour, duration, heading, note, paint, step};

mod ginkgo;
mod network_policy_api;

/// A named selection of specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// NetworkPolicy, without SCTP (not in every kernel). The cluster's families decide which addresses are used.
    Netpol,
    /// ClusterNetworkPolicy, standard and experimental. It installs the kind's definition and has the release watch it. Tests that
    /// open SCTP sockets are counted apart where the kernel has none.
    NetworkPolicyApi,
    /// This project's own: install, upgrade, rollback, uninstall, and what is left. On a cluster without a network (CNI=none).
    Lifecycle,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Specs that passed.
    pub passed: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    /// Names of those that failed and could not pass: they need of the kernel what it lacks.
    pub impossible: Vec<String>,
}

/// A spec that has ended.
struct Ended {
    name: String,
    outcome: Outcome,
    took: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Failed, for what the kernel lacks.
    Impossible,
}

/// Runs `suite`: of upstream's specs those that match `focus` too if it is given, each printed with its result. Their full log and
/// a report go to `target/conformance/`.
pub fn run(cluster: &Cluster, suite: Suite, focus: Option<&str>) -> Result<Verdict> {
    match suite {
        Suite::Netpol => netpol(cluster, focus),
        Suite::NetworkPolicyApi => network_policy_api::run(cluster, focus),
        Suite::Lifecycle => {
            lifecycle::run_all(cluster)?;
            Ok(Verdict { passed: 1, ..Verdict::default() })
        }
    }
}

/// SIG Network's specs of NetworkPolicy.
fn netpol(cluster: &Cluster, focus: Option<&str>) -> Result<Verdict> {
    const SPECS: &str = "Netpol";
    let binary = E2E_TEST.build(&cluster.paths)?;
    let pattern = focus.map_or(SPECS.to_owned(), |f| format!("{SPECS}.*({f})"));
    let mut command = Command::new(binary);
    command.arg(format!("--kubeconfig={}", cluster.folder.kubeconfig().display()));
    command.args(["--provider=skeleton", "--ginkgo.no-color", "--ginkgo.v", "--ginkgo.timeout=2h"]);
    command.arg(format!("--ginkgo.focus={pattern}")).arg("--ginkgo.skip=Feature:SCTP");
    command.arg(format!("--report-dir={}", cluster.paths.reports("conformance").display()));
    let mut output = ginkgo::Output::default();
    specs(cluster, SPECS, &format!("matching {pattern}"), command, |line| output.line(line))
}

/// Runs a command that runs specs, keeps all that it says, and prints those that end as `read` finds them in its lines.
fn specs(
    cluster: &Cluster,
    suite: &str,
    which: &str,
    command: Command,
    read: impl FnMut(&str) -> Option<Ended>,
) -> Result<Verdict> {
    let api = cluster.api()?;
    step("nodes are ready", || cluster.wait_nodes_ready(&api, Duration::from_secs(30)))?;
    let reports = cluster.paths.reports("conformance");
    std::fs::create_dir_all(&reports)?;
    let shape = cluster.folder.expect()?.shape();
    let log = reports.join(format!("{suite}-{:?}-{:?}.log", shape.family, shape.routing).to_lowercase());
    heading(&format!("Upstream specs {which} on {shape}; the full log: {}", log.display()));

    let started = Instant::now();
    let (verdict, status) = follow(command, &log, read)?;
    let total = verdict.passed + verdict.failed.len() + verdict.impossible.len();
    heading(&format!("{} of {total} specs pass, in {}", verdict.passed, duration(started.elapsed())));
    verdict.failed.iter().for_each(|name| note(&paint(Colour::Red, name)));
    if total == 0 || (status.success() != (verdict.passed == total)) {
        bail!("the specs ended with {status}; see {}", log.display());
    }
    Ok(verdict)
}

fn follow(
    mut command: Command,
    log: &Path,
    mut read: impl FnMut(&str) -> Option<Ended>,
) -> Result<(Verdict, ExitStatus)> {
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(Stdio::piped()).stderr(file.try_clone()?);
    let mut child = command.spawn().context("cannot run the specs")?;
    let output = BufReader::new(child.stdout.take().context("the specs have no output")?);
    let mut verdict = Verdict::default();
    for line in output.lines() {
        let line = line?;
        writeln!(file, "{line}")?;
        let Some(Ended { name, outcome, took }) = read(&line) else { continue };
        let (mark, why) = match outcome {
            Outcome::Passed => (paint(Colour::Green, "✓"), ""),
            Outcome::Failed => (paint(Colour::Red, "✗"), ""),
            Outcome::Impossible => (paint(Colour::Yellow, "−"), " (this kernel has no SCTP)"),
        };
        eprintln!("  {mark} {:<110} {:>7}", format!("{name}{why}"), duration(took));
        match outcome {
            Outcome::Passed => verdict.passed += 1,
            Outcome::Failed => verdict.failed.push(name),
            Outcome::Impossible => verdict.impossible.push(name),
        }
    }
    Ok((verdict, child.wait()?))
}
