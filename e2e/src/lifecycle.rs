//! The life of an installation, and what it leaves: from the version before to this one and back under live connections, other
//! values, uninstall while pods run, install again.

mod pods;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::pods::Pods;
use crate::api::Api;
use crate::cluster::Cluster;
use crate::helm;
use crate::kubectl::run;
use crate::progress::{heading, note, step};
use crate::sandbox::Namespaces;
use crate::traces::{Id, Traces, alive};
use crate::version::Version;

/// Other values: other maps' sizes, so that maps are moved, and new daemons and operators.
const OTHER: [&str; 2] = ["bpf.ctTcpMax=131072,bpf.natMax=65536", "logLevel=debug,operator.logLevel=debug"];

/// Another network's configuration, which is to be there again in the end.
const FOREIGN: &str = "/etc/cni/net.d/10-other.conflist";

/// Runs all steps on a cluster without a network. Fails with the first that is not as it should be.
pub fn run_all(cluster: &Cluster) -> Result<()> {
    let api = cluster.api()?;
    let (before, this) = (Version::previous(&cluster.paths)?, Version::this(&cluster.paths)?);
    if helm::is_installed(cluster)? {
        note("an installation is there already: what it left before is not seen");
        helm::uninstall(cluster)?;
    }
    foreign(cluster)?;
    let empty = step("what nodes look like before", || Traces::take(cluster, &api))?;
    let mut life = Life { cluster, api: &api, seen: BTreeSet::new() };

    heading(&format!("Install the version before, {}", before.tag));
    helm::install(cluster, &before, &[], None)?;
    let mut pods = step("pods, and a policy", || Pods::start(cluster, &api, "lifecycle"))?;
    let installed_before = Traces::take(cluster, &api)?;
    life.nothing_beyond(&installed_before, false)?;

    heading("Upgrade to this version");
    pods.talk_during(|| helm::install(cluster, &this, &[], None))?;
    step("nodes are marked", || life.marked())?;
    pods.same()?;
    // What this version has on nodes, and nothing of the other's in the kernel.
    let installed = Traces::take(cluster, &api)?;
    life.nothing_beyond(&installed, false)?;

    heading("Roll back");
    pods.talk_during(|| helm::rollback(cluster))?;
    pods.same()?;
    life.nothing_beyond(&installed_before.and_lasting(&installed), false)?;

    heading("Upgrade again");
    pods.talk_during(|| helm::install(cluster, &this, &[], None))?;
    pods.same()?;
    life.nothing_beyond(&installed, false)?;

    heading("Other values");
    pods.talk_during(|| helm::change(cluster, &OTHER))?;
    pods.same()?;
    life.nothing_beyond(&installed, false)?;

    heading("Back to the values before");
    pods.talk_during(|| helm::rollback(cluster))?;
    pods.same()?;
    life.nothing_beyond(&installed, false)?;

    heading("Uninstall, while pods run");
    helm::uninstall(cluster)?;
    life.nothing_beyond(&empty, true)?;

    heading("Install again");
    helm::install(cluster, &this, &[], None)?;
    step("pods of the old installation go", || pods.remove())?;
    let mut pods = step("pods, and a policy", || Pods::start(cluster, &api, "lifecycle"))?;
    pods.talk_during(|| Ok(()))?;
    step("pods go", || pods.remove())?;

    heading("Uninstall");
    helm::uninstall(cluster)?;
    life.nothing_beyond(&empty, true)
}

/// What the plugin makes when it is called while there is no daemon.
const ON_DEMAND: &str = " /run/axoneme/deferred";

struct Life<'a> {
    cluster: &'a Cluster,
    api: &'a Api,
    /// All that ever was pinned.
    seen: BTreeSet<Id>,
}

impl Life<'_> {
    /// Waits until no node has the taint and every node says that it has a network.
    fn marked(&self) -> Result<()> {
        self.api.wait("nodes' conditions and taints", Duration::from_secs(30), |api| {
            let good = api.list("/api/v1/nodes")?.iter().all(|node| {
                let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "NetworkUnavailable" && c["status"] == "False")
                    && !taints.iter().any(|taint| taint["key"] == "node.cilium.io/agent-not-ready")
            });
            Ok(good.then_some(()))
        })
    }

    /// Fails with what is there and was not at another time; and with programs and maps that nobody has pinned any more and that
    /// the kernel still has. Once `uninstalled`, nothing may be pinned.
    fn nothing_beyond(&mut self, earlier: &Traces, uninstalled: bool) -> Result<()> {
        step("leak check", || {
            let deadline = Instant::now() + Duration::from_secs(20);
            let (mut left, old) = loop {
                let now = Traces::take(self.cluster, self.api)?;
                let mut left = now.since(earlier);
                left.retain(|line| uninstalled || !line.ends_with(ON_DEMAND));
                let mut old = alive(&self.seen.difference(&now.pinned).cloned().collect())?;
                self.seen.extend(now.pinned.iter().cloned());
                if uninstalled && !now.pinned.is_empty() {
                    old.extend(now.pinned);
                }
                // Pods that Helm has deleted go within seconds, and the kernel frees what nobody uses a little later.
                if (left.is_empty() && old.is_empty()) || Instant::now() > deadline {
                    break (left, old);
                }
                std::thread::sleep(Duration::from_millis(500));
            };
            left.extend(old.into_iter().map(|(kind, id)| format!("kernel: {kind} {id}")));
            left.iter().for_each(|line| note(line));
            ensure!(left.is_empty(), "{} things are left behind", left.len());
            Ok(())
        })
    }
}

/// Gives the first node the configuration of another network, of which nothing else is there.
fn foreign(cluster: &Cluster) -> Result<()> {
    let state = cluster.folder.expect()?;
    let node = state.nodes.values().next().context("the cluster has no node")?;
    let content = r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}"#;
    let mut write = Namespaces::of(node.init)?.command("sh")?;
    run(write.args(["-c", &format!("echo '{content}' > {FOREIGN}")])).map(drop)
}
