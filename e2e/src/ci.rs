//! Everything that CI runs, in the order in which it fails fastest.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::address::Family;
use crate::cluster::{Cluster, Shape};
use crate::conformance::{self, Suite};
use crate::gobuild::{self, E2E_TEST};
use crate::progress::{Colour, duration, heading, note, paint};
use crate::state::Routing;
use crate::version::Version;
use crate::{cargo, helm, images, leaks, machine, state};

/// Nodes of the cluster that scenarios share.
const NODES: u8 = 3;

/// Values of that cluster.
const VALUES: &str = "e2e/tests/cluster/values.yaml";

/// Values of a second one, whose addresses are of several pools.
const POOLS: &str = "e2e/tests/cluster/multi-pool.yaml";

/// Scenarios that run on the second one: of pools, and those whose way through the data path depends on families and routing.
const PATHS: [&str; 8] =
    ["pools::", "pods::", "services::", "outside::", "packets::", "host::", "host_policy::", "bandwidth::"];

/// Tests with an API server, which has to be built for them: package and name.
const API_SERVER: [&str; 2] = ["api_server", "authority"];

/// Also of a single test: a package alone has other features, and what it needs would be built once more.
const WHOLE: [&str; 2] = ["--workspace", "--locked"];

/// Of the property tests: what passed once passes again. `make fuzz` takes other seeds.
const SEED: u64 = 1;

/// Random worlds in which all that judge a packet have to agree.
const WORLDS: u32 = 100_000;

/// That they do.
const AGREEMENT: &str = "whoever_judges_a_packet_says_the_same";

/// What judges is optimised for that: unoptimised, 100,000 worlds would take half an hour.
const OPTIMISED: [&str; 4] = [
    "--config",
    "profile.dev.package.axoneme-operator.opt-level=2",
    "--config",
    "profile.dev.package.axoneme-e2e.opt-level=2",
];

/// A sample of upstream's specs, one of each kind; all of them are `make conformance SUITE=netpol`.
const SAMPLE: &str = "should enforce policy based on Ports|default-deny-all|should allow egress access on one named port|\
    should ensure an IP overlapping both|using UDP should enforce policy based on Ports|should enforce updated policy";

/// The same of ClusterNetworkPolicy: the spec in which all tiers meet; all are `make conformance SUITE=network-policy-api`.
const TIERS: &str = "CNPAdminTierIntegration";

/// Format, lints and licences.
pub fn lint(cluster: &Cluster) -> Result<()> {
    heading("Lint");
    task("cargo fmt --check", cargo(cluster).args(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo(cluster);
    clippy.args(["clippy", "--quiet"]).args(WHOLE).args(["--all-targets", "--", "-D", "warnings"]);
    task("cargo clippy", &mut clippy)?;
    // Not among all targets, because a plain `cargo test` shall not run them.
    let mut clippy = cargo(cluster);
    clippy.args(["clippy", "--quiet"]).args(WHOLE);
    for test in ["cluster", "skew"].into_iter().chain(API_SERVER) {
        clippy.args(["--test", test]);
    }
    task("cargo clippy, tests that need a cluster", clippy.args(["--", "-D", "warnings"]))?;
    if machine::in_path("cargo-deny") {
        // It looks at all platforms' crates, of which a build on a fresh machine has fetched only this one's.
        task("cargo fetch", cargo(cluster).args(["fetch", "--quiet", "--locked"]))?;
        task("cargo deny", cargo(cluster).args(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    } else {
        note("cargo-deny is not installed: licences, bans and sources are not checked");
    }
    Ok(())
}

/// All tests. Ends with nothing left on the machine.
pub fn test(cluster: &Cluster) -> Result<()> {
    let started = Instant::now();
    let _claim = state::claim_name(&cluster.folder.name)?;
    cluster.refuse_foreign()?;
    lint(cluster)?;
    heading("Unit, scenario and packet tests");
    // The chart's tests render it.
    gobuild::HELM.build(&cluster.paths)?;
    let mut tests = cargo(cluster);
    tests.args(["test", "--quiet"]).args(WHOLE).env("PROPTEST_RNG_SEED", SEED.to_string());
    task("cargo test", &mut tests)?;
    fuzz(cluster, WORLDS, SEED, AGREEMENT)?;

    heading("End to end: what is needed");
    gobuild::build_all(&cluster.paths, &gobuild::ALL)?;
    images::dns_image(&cluster.paths)?;
    for test in API_SERVER {
        let mut tests = cargo(cluster);
        tests.args(["test", "--quiet"]).args(WHOLE).args(["--test", test]);
        task(&format!("with an API server: {test}"), &mut tests)?;
    }
    Version::this(&cluster.paths)?;
    cluster.down()?;
    if let Err(error) = end_to_end(cluster) {
        note(&format!("the cluster is left up to be looked at: KUBECONFIG={}", cluster.folder.kubeconfig().display()));
        return Err(error);
    }
    cluster.down()?;
    let left = leaks::find(&cluster.paths, Some(&cluster.folder.name))?;
    if !left.is_empty() {
        bail!("the cluster left something behind:\n  {}", left.join("\n  "));
    }
    note("nothing is left behind");
    heading(&paint(Colour::Green, &format!("All tests pass, in {}", duration(started.elapsed()))));
    Ok(())
}

/// The property tests of policies whose names contain `test`, with so many cases each.
pub fn fuzz(cluster: &Cluster, cases: u32, seed: u64, test: &str) -> Result<()> {
    let command = || {
        let mut command = cargo(cluster);
        command.args(["test", "--quiet"]).args(WHOLE).args(["--test", "policies"]).args(OPTIMISED);
        command
    };
    task("cargo test, optimised for random policies", command().arg("--no-run"))?;
    let mut run = command();
    run.args(["--", "--nocapture", "--test-threads", "1", test]);
    run.env("PROPTEST_CASES", cases.to_string()).env("PROPTEST_RNG_SEED", seed.to_string());
    task(&format!("{cases} cases of policies, from seed {seed}"), &mut run)
}

fn end_to_end(cluster: &Cluster) -> Result<()> {
    let dual = Shape { family: Family::Dual, routing: Routing::Native, ..Shape::of(NODES) };
    scenarios(cluster, dual, POOLS, &PATHS)?;
    cluster.down()?;
    scenarios(cluster, Shape::of(NODES), VALUES, &[])?;
    E2E_TEST.build(&cluster.paths)?;
    for (suite, sample) in [(Suite::Netpol, SAMPLE), (Suite::NetworkPolicyApi, TIERS)] {
        let verdict = conformance::run(cluster, suite, Some(sample))?;
        if !verdict.failed.is_empty() {
            bail!("{} of upstream's specs fail", verdict.failed.len());
        }
    }
    cluster.wait_nodes_ready(&cluster.api()?, Duration::from_secs(10))
}

/// Runs the scenarios whose names contain one of `names`, all if there are none, on a new cluster.
fn scenarios(cluster: &Cluster, shape: Shape, values: &str, names: &[&str]) -> Result<()> {
    cluster.up(shape)?;
    helm::deploy(cluster, &[], Some(&cluster.paths.repository.join(values)))?;
    let mut tests = cargo(cluster);
    tests.args(["test", "--quiet"]).args(WHOLE).args(["--test", "cluster", "--"]);
    tests.args(["--test-threads", "1"]).args(names).env("AXONEME_E2E_CLUSTER", &cluster.folder.name);
    task(&format!("scenarios on {shape}"), &mut tests)
}

fn cargo(cluster: &Cluster) -> Command {
    cargo::cargo(&cluster.paths.repository, &cluster.paths.target)
}

/// A step that speaks for itself while it runs.
fn task(what: &str, command: &mut Command) -> Result<()> {
    note(&format!("{what} …"));
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {what}"))?;
    let took = duration(started.elapsed());
    if !status.success() {
        eprintln!("  {} {what:<58} {took:>8}", paint(Colour::Red, "✗"));
        bail!("{what} failed");
    }
    eprintln!("  {} {what:<58} {took:>8}", paint(Colour::Green, "✓"));
    Ok(())
}
