//! Installing this project into a cluster: images into the nodes, then the chart, as a user would.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::address::Family;
use crate::cluster::Cluster;
use crate::kubectl::run;
use crate::node;
use crate::progress::{note, slow_step, step};
use crate::state::{Routing, State};
use crate::version::Version;

const RELEASE: &str = "axoneme";
const NAMESPACE: &str = "kube-system";

/// Builds and loads the images, and installs or upgrades the release with values of a file, and `name=value` as helm's `--set`
/// takes them.
pub fn deploy(cluster: &Cluster, set: &[&str], values: Option<&Path>) -> Result<()> {
    install(cluster, &Version::this(&cluster.paths)?, set, values)
}

/// Like [`deploy`], with a version that is built already.
pub fn install(cluster: &Cluster, version: &Version, set: &[&str], values: Option<&Path>) -> Result<()> {
    cluster.load(&version.archives)?;
    discard_unfinished(cluster)?;
    let state = cluster.folder.expect()?;
    let host = state.addresses().api_server().to_string();
    let mut helm = cluster.helm()?;
    helm.args(["upgrade", "--install", RELEASE]).arg(&version.chart);
    helm.args(["--namespace", NAMESPACE, "--wait", "--timeout", "3m"]);
    helm.arg("--set").arg(format!("image.tag={0},operator.image.tag={0}", version.tag));
    helm.arg("--set").arg(format!("k8sServiceHost={host},k8sServicePort=6443"));
    helm.arg("--set").arg(format!("cgroup.hostRoot={}", node::CGROUP_ROOT));
    shape_values(&state).iter().for_each(|value| {
        helm.args(["--set", value]);
    });
    // A tag stays the same from build to build; this makes pods new when what is in their image is.
    for (component, archive) in ["operator.podAnnotations", "podAnnotations"].iter().zip(&version.archives) {
        let content = archive.file_stem().unwrap_or_default().to_string_lossy();
        helm.arg("--set-string").arg(format!("{component}.image={content}"));
    }
    set.iter().for_each(|value| {
        helm.args(["--set", value]);
    });
    if let Some(values) = values {
        helm.arg("--values").arg(values);
    }
    let installed =
        slow_step(&format!("helm upgrade --install axoneme, images' tag {} --wait", version.tag), || run(&mut helm));
    if installed.is_err() {
        explain(cluster);
    }
    installed?;
    let api = cluster.api()?;
    step("nodes are ready", || cluster.wait_nodes_ready(&api, Duration::from_secs(60)))
}

/// What the cluster's shape means for the chart.
fn shape_values(state: &State) -> Vec<String> {
    let mut values = vec![format!("ipv4.enabled={}", state.family.v4()), format!("ipv6.enabled={}", state.family.v6())];
    for pods in state.addresses().pods() {
        let family = if pods.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        values.push(format!("ipam.operator.clusterPool{family}PodCIDRList={{{pods}}}"));
    }
    if state.family == Family::Ipv6 {
        values.push("underlayProtocol=ipv6".to_owned());
    }
    if state.routing == Routing::Native {
        values.extend(["routingMode=native", "autoDirectNodeRoutes=true"].map(str::to_owned));
    }
    values
}

/// Changes values of the installed release (`name=value` as helm's `--set` takes them) and waits until it runs with them.
pub fn change(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let mut helm = cluster.helm()?;
    helm.args(["upgrade", RELEASE]).arg(cluster.paths.repository.join("charts/axoneme"));
    helm.args(["--namespace", NAMESPACE, "--reuse-values", "--wait", "--timeout", "3m"]);
    values.iter().for_each(|value| {
        helm.args(["--set", value]);
    });
    slow_step(&format!("helm upgrade --set {}", values.join(",")), || run(&mut helm)).map(drop)
}

/// Goes back to the revision before.
pub fn rollback(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.helm()?;
    helm.args(["rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "3m"]);
    slow_step("helm rollback --wait", || run(&mut helm)).map(drop)
}

/// Uninstalls the release, as a user would.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let mut helm = cluster.helm()?;
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m"]);
    let uninstalled = slow_step("helm uninstall axoneme --wait", || run(&mut helm));
    if uninstalled.is_err() {
        explain(cluster);
    }
    uninstalled.map(drop)
}

/// Whether a release is there, be it whole or not.
pub fn is_installed(cluster: &Cluster) -> Result<bool> {
    let mut helm = cluster.helm()?;
    Ok(run(helm.args(["list", "--all", "--short", "--namespace", NAMESPACE]))?.lines().any(|line| line == RELEASE))
}

/// helm refuses to touch a release that an interrupted command left half installed.
fn discard_unfinished(cluster: &Cluster) -> Result<()> {
    let mut status = cluster.helm()?;
    let Ok(answer) = run(status.args(["status", RELEASE, "--namespace", NAMESPACE, "--output", "json"])) else {
        return Ok(());
    };
    let release: Value = serde_json::from_str(&answer)?;
    if release["info"]["status"].as_str().is_some_and(|s| s.starts_with("pending")) {
        let mut uninstall = cluster.helm()?;
        step("remove a release that was interrupted", || {
            run(uninstall.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]))
        })?;
    }
    Ok(())
}

/// What somebody would look at next when something has failed: where our pods are, and what they said.
pub fn explain(cluster: &Cluster) {
    let questions: [&[&str]; 4] = [
        &["get", "pods", "--output=wide"],
        &["logs", "--selector=app.kubernetes.io/name=axoneme-operator", "--tail=40", "--prefix"],
        &["logs", "--selector=app.kubernetes.io/name=axoneme", "--tail=40", "--prefix"],
        &["logs", "--selector=app.kubernetes.io/name=axoneme-uninstall", "--tail=40", "--prefix"],
    ];
    for question in questions {
        let answer =
            cluster.kubectl().and_then(|mut kubectl| run(kubectl.args(["--namespace", NAMESPACE]).args(question)));
        note(&format!("kubectl --namespace {NAMESPACE} {}", question.join(" ")));
        answer.unwrap_or_else(|error| format!("{error:#}")).lines().for_each(note);
    }
}
