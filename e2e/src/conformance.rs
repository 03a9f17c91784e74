//! Upstream's own specs, run against a cluster: Kubernetes' e2e.test with the specs of SIG Network.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::gobuild::E2E_TEST;
use crate::lifecycle;
use crate::progress::{Colour, duration, heading, note, paint, step};

/// A named selection of specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// NetworkPolicy, without SCTP (not in every kernel). The cluster's families decide which addresses are used.
    Netpol,
    /// This project's own: install, upgrade, rollback, uninstall, and what is left. On a cluster without a network (CNI=none).
    Lifecycle,
}

impl Suite {
    /// Which of upstream's specs it has: a pattern, and one of those that are left out. None: they are this project's own steps.
    fn specs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Netpol => Some(("Netpol", "Feature:SCTP")),
            Self::Lifecycle => None,
        }
    }
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Specs that passed.
    pub passed: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
}

/// Runs `suite`: of upstream's specs those that match `focus` too if it is given, each printed with its result. Their full log and
/// a JUnit report go to `target/conformance/`.
pub fn run(cluster: &Cluster, suite: Suite, focus: Option<&str>) -> Result<Verdict> {
    let Some((specs, skip)) = suite.specs() else {
        lifecycle::run_all(cluster)?;
        return Ok(Verdict { passed: 1, failed: Vec::new() });
    };
    let binary = E2E_TEST.build(&cluster.paths)?;
    let api = cluster.api()?;
    step("nodes are ready", || cluster.wait_nodes_ready(&api, Duration::from_secs(30)))?;
    let reports = cluster.paths.reports("conformance");
    std::fs::create_dir_all(&reports)?;
    let shape = cluster.folder.expect()?.shape();
    let log = format!("{}-{:?}-{:?}.log", specs, shape.family, shape.routing).to_lowercase();
    let log = reports.join(log);
    let pattern = focus.map_or(specs.to_owned(), |f| format!("{specs}.*({f})"));
    heading(&format!("Upstream specs matching {pattern} on {shape}; the full log: {}", log.display()));

    let mut command = Command::new(binary);
    command.arg(format!("--kubeconfig={}", cluster.folder.kubeconfig().display()));
    command.args(["--provider=skeleton", "--ginkgo.no-color", "--ginkgo.v", "--ginkgo.timeout=2h"]);
    command.arg(format!("--ginkgo.focus={pattern}")).arg(format!("--ginkgo.skip={skip}"));
    command.arg(format!("--report-dir={}", reports.display()));
    let started = Instant::now();
    let (verdict, status) = follow(command, &log)?;
    let total = verdict.passed + verdict.failed.len();
    heading(&format!("{} of {total} specs pass, in {}", verdict.passed, duration(started.elapsed())));
    verdict.failed.iter().for_each(|name| note(&paint(Colour::Red, name)));
    if total == 0 {
        bail!("no spec ran ({status}); see {}", log.display());
    }
    Ok(verdict)
}

/// Runs the specs, keeps all that they say, and prints a line for each that ends.
fn follow(mut command: Command, log: &std::path::Path) -> Result<(Verdict, ExitStatus)> {
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(Stdio::piped()).stderr(file.try_clone()?);
    let mut child = command.spawn().context("cannot run the specs")?;
    let output = BufReader::new(child.stdout.take().context("the specs have no output")?);
    let mut verdict = Verdict::default();
    let mut current = String::new();
    for line in output.lines() {
        let line = line?;
        writeln!(file, "{line}")?;
        if line.starts_with("[sig-") {
            current = spec_name(&line);
        }
        // Ginkgo ends a spec with a line like "• [12.345 seconds]" or "• [FAILED] [12.345 seconds]".
        let Some(rest) = line.strip_prefix("• ") else { continue };
        let time =
            rest.rsplit('[').next().and_then(|t| t.split(' ').next()).and_then(|t| t.parse().ok()).unwrap_or_default();
        let time = duration(Duration::from_secs_f64(time));
        if rest.contains("[FAILED]") || rest.contains("[PANICKED]") || rest.contains("[TIMEDOUT]") {
            eprintln!("  {} {current:<110} {time:>7}", paint(Colour::Red, "✗"));
            verdict.failed.push(current.clone());
        } else {
            eprintln!("  {} {current:<110} {time:>7}", paint(Colour::Green, "✓"));
            verdict.passed += 1;
        }
    }
    Ok((verdict, child.wait()?))
}

/// The part of a spec's name that tells it from its neighbours.
fn spec_name(line: &str) -> String {
    let name = line.split("] ").last().unwrap_or(line);
    let name = line.split_once(" should ").map_or(name.to_owned(), |(_, rest)| format!("should {rest}"));
    let name = name.split(" [Feature:").next().unwrap_or_default();
    let name = name.split("\u{1b}").next().unwrap_or_default();
    name.chars().take(110).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let line = "[sig-network] Netpol NetworkPolicy between server and client should enforce policy to allow X [Feature:NetworkPolicy]";
        assert_eq!(spec_name(line), "should enforce policy to allow X");
    }
}
