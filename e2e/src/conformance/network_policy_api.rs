//! The conformance tests of ClusterNetworkPolicy, by the small program in `e2e/go/network-policy-api`.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Ended, Outcome, Verdict, specs};
use crate::cluster::Cluster;
use crate::gobuild::NETWORK_POLICY_API;
use crate::progress::step;
use crate::{helm, images};

const MODULE: &str = "sigs.k8s.io/network-policy-api";
/// Its definition, with the fields that are experimental.
const DEFINITION: &str = "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml";

/// Runs those that match `focus`.
pub(super) fn run(cluster: &Cluster, focus: Option<&str>) -> Result<Verdict> {
    let binary = NETWORK_POLICY_API.build(&cluster.paths)?;
    prepare(cluster)?;
    let report = cluster.paths.reports("conformance").join("network-policy-api.yaml");
    let mut command = Command::new(binary);
    command.env("KUBECONFIG", cluster.folder.kubeconfig()).args(["-test.v", "-test.timeout=2h"]);
    command.arg("-report").arg(report).args(["-implementation-version", env!("CARGO_PKG_VERSION")]);
    if let Some(focus) = focus {
        command.arg(format!("-test.run=TestConformance/({focus})"));
    }
    let mut output = Output::default();
    specs(cluster, "network-policy-api", "of ClusterNetworkPolicy", command, |line| output.line(line))
}

/// The kind is defined, the release watches it, and nodes have the image of the tests' pods.
fn prepare(cluster: &Cluster) -> Result<()> {
    let definition = NETWORK_POLICY_API.dependency(&cluster.paths, MODULE)?.join(DEFINITION);
    step("ClusterNetworkPolicies are defined", || cluster.apply(&definition, &[]))?;
    helm::deploy(cluster, &["k8sClusterNetworkPolicy.enabled=true"], None)?;
    cluster.load(&[images::agnhost_with_bash(&cluster.paths)?])
}

/// What the program prints, so far: Go's own lines, and when a test has ended `spec: passed|failed NAME SECONDS`.
#[derive(Default)]
struct Output {
    /// What the last attempt to connect said.
    last: String,
    /// Assertions that failed because sockets of SCTP cannot be opened, and all that failed.
    unsupported: usize,
    failed: usize,
}

impl Output {
    /// The test that ends with this line, if one does.
    fn line(&mut self, line: &str) -> Option<Ended> {
        if line.contains("Expected connection to") {
            self.last = line.to_owned();
        } else if line.trim_start().starts_with("Error Trace:") {
            self.failed += 1;
            self.unsupported += usize::from(std::mem::take(&mut self.last).ends_with("protocol not supported"));
        }
        let mut words = line.strip_prefix("spec: ")?.split(' ');
        let Self { unsupported, failed, .. } = std::mem::take(self);
        let outcome = match words.next()? {
            "passed" => Outcome::Passed,
            _ if failed > 0 && failed == unsupported => Outcome::Impossible,
            _ => Outcome::Failed,
        };
        let name = words.next()?.to_owned();
        Some(Ended { name, outcome, took: Duration::from_secs_f64(words.next()?.parse().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "    helper.go:71: Expected connection to be dropped from a/b to 10.0.0.1, but instead it returned a different status: ";

    fn outcome(lines: &[&str]) -> Outcome {
        let mut output = Output::default();
        lines.iter().filter_map(|line| output.line(line)).last().unwrap().outcome
    }

    #[test]
    fn a_test_that_fails_for_the_lack_of_sctp_alone_is_impossible() {
        let sctp = format!("{REFUSED}OTHER: protocol not supported");
        let tcp = format!("{REFUSED}REFUSED");
        let error = "        \tError Trace:\tsigs.k8s.io/helper.go:70";
        let end = "spec: failed CNPAdminTierGress 12.5";
        assert!(outcome(&[&sctp, error, end]) == Outcome::Impossible);
        assert!(outcome(&[&tcp, error, end]) == Outcome::Failed);
        assert!(outcome(&[&sctp, error, &tcp, error, end]) == Outcome::Failed);
        assert!(outcome(&[&sctp, error, error, end]) == Outcome::Failed);
        assert!(outcome(&[&sctp, error, end, end]) == Outcome::Failed);
        assert!(outcome(&["    --- PASS: TestConformance/X (1.0s)", "spec: passed X 1.0"]) == Outcome::Passed);
    }
}
