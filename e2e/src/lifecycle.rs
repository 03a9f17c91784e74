//! The life of an installation, and what it leaves: install, upgrade and roll back under live connections, uninstall while pods
//! run, install again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::cluster::Cluster;
use crate::kubectl::run;
use crate::progress::{heading, note, step};
use crate::reach::{Conversation, Outcome, probe};
use crate::sandbox::Namespaces;
use crate::traces::{Id, Traces, alive};
use crate::workload::{Workload, pod_ip};
use crate::{helm, images};

/// Values of the upgrade: other programs' sizes, so that maps are moved, and new daemons and operators.
const UPGRADE: [&str; 2] = ["bpf.ctTcpMax=131072,bpf.natMax=65536", "logLevel=debug,operator.logLevel=debug"];

/// Connections that are open while something changes.
const CONVERSATIONS: usize = 20;

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another network's configuration, which is to be there again in the end.
const FOREIGN: &str = "/etc/cni/net.d/10-other.conflist";

/// Runs all steps on a cluster without a network. Fails with the first that is not as it should be.
pub fn run_all(cluster: &Cluster) -> Result<()> {
    let api = cluster.api()?;
    if helm::is_installed(cluster)? {
        note("an installation is there already: what it left before is not seen");
        helm::uninstall(cluster)?;
    }
    foreign(cluster)?;
    let before = step("what nodes look like before", || Traces::take(cluster, &api))?;
    let mut life = Life { cluster, api: &api, before, installed: Traces::default(), seen: BTreeSet::new() };

    heading("Install");
    helm::deploy(cluster, &[], None)?;
    step("nodes are marked", || life.marked())?;
    let workload = Workload::new(&api, "lifecycle")?;
    let pods = step("pods, and a policy", || life.pods(&workload))?;
    life.installed = Traces::take(cluster, &api)?;
    life.no_leak(false)?;

    heading("Upgrade");
    life.under_load(&pods, || helm::change(cluster, &UPGRADE))?;
    life.no_leak(false)?;

    heading("Rollback");
    life.under_load(&pods, || helm::rollback(cluster))?;
    life.no_leak(false)?;

    heading("Uninstall, while pods run");
    helm::uninstall(cluster)?;
    life.no_leak(true)?;

    heading("Install again");
    helm::deploy(cluster, &[], None)?;
    step("pods of the old installation go", || life.gone(workload))?;
    let workload = Workload::new(&api, "lifecycle")?;
    let pods = step("pods, and a policy", || life.pods(&workload))?;
    life.under_load(&pods, || Ok(()))?;
    step("pods go", || life.gone(workload))?;

    heading("Uninstall");
    helm::uninstall(cluster)?;
    life.no_leak(true)
}

/// The pods between which connections are open.
struct Pods {
    server: SocketAddr,
    friends: Vec<std::fs::File>,
    stranger: std::fs::File,
}

struct Life<'a> {
    cluster: &'a Cluster,
    api: &'a Api,
    before: Traces,
    installed: Traces,
    /// All that ever was pinned.
    seen: BTreeSet<Id>,
}

impl Life<'_> {
    /// A server that only friends may reach, a friend on each node, and a stranger.
    fn pods(&self, workload: &Workload<'_>) -> Result<Pods> {
        let agnhost = images::agnhost_name(&self.cluster.paths)?;
        let nodes = self.cluster.nodes()?;
        let node = |position: usize| self.cluster.folder.node_name(nodes[position % nodes.len()]);
        workload.friends_policy()?;
        workload.pod("server", &node(0), &agnhost, &["netexec", "--http-port=8080"])?;
        workload.pod("stranger", &node(1), &agnhost, &["pause"])?;
        let names: Vec<String> = (0..nodes.len()).map(|position| format!("friend{position}")).collect();
        for (position, name) in names.iter().enumerate() {
            workload.labelled_pod(name, "friend", &node(position), &agnhost, &["pause"])?;
        }
        let server = SocketAddr::new(pod_ip(&workload.ready("server")?)?, 8080);
        let network = |name: &str| self.cluster.pod_network(&workload.ready(name)?);
        let friends: Vec<_> = names.iter().map(|name| network(name)).collect::<Result<_>>()?;
        let stranger = network("stranger")?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !friends.iter().all(|friend| probe(friend, server).is_ok_and(|answer| answer.reached())) {
            anyhow::ensure!(Instant::now() < deadline, "a friend does not reach the server");
        }
        Ok(Pods { server, friends, stranger })
    }

    /// Does `work` while connections are open and asked all the time, new ones come about, and a stranger is kept out. Nothing of
    /// it may fail.
    fn under_load(&self, pods: &Pods, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let open = |at: usize| Conversation::open(&pods.friends[at % pods.friends.len()], pods.server);
        let mut conversations = (0..CONVERSATIONS).map(open).collect::<Result<Vec<_>>>()?;
        let (stop, problems) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
        let counts = Mutex::new(Counts::default());
        let problem = |what: String| problems.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let result = std::thread::scope(|scope| {
            for (at, conversation) in conversations.iter_mut().enumerate() {
                let (stop, problem, counts) = (&stop, &problem, &counts);
                scope.spawn(move || {
                    let mut own = Counts::default();
                    while !stop.load(Ordering::Relaxed) {
                        let asked = Instant::now();
                        if let Err(error) = conversation.ask(PATIENCE) {
                            problem(format!("connection {at} ended: {error}"));
                            break;
                        }
                        own.answers += 1;
                        own.longest = own.longest.max(asked.elapsed());
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    counts.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for friend in &pods.friends {
                        match probe(friend, pods.server) {
                            Ok(Outcome::Reached(_)) => {
                                counts.lock().unwrap_or_else(PoisonError::into_inner).new += 1;
                            }
                            other => problem(format!("a new connection fails: {other:?}")),
                        }
                    }
                    if probe(&pods.stranger, pods.server).is_ok_and(|answer| answer.reached()) {
                        problem("the policy does not hold: a stranger reaches the server".to_owned());
                    }
                }
            });
            let result = work();
            // What follows a new daemon's start counts, too.
            std::thread::sleep(Duration::from_secs(5));
            stop.store(true, Ordering::Relaxed);
            result
        });
        result?;
        let Counts { answers, new, longest } = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        note(&format!(
            "{CONVERSATIONS} open connections: {answers} answers, the slowest after {} ms; {new} new ones; {} problems",
            longest.as_millis(),
            problems.len()
        ));
        if !problems.is_empty() {
            problems.iter().take(20).for_each(|problem| note(problem));
            bail!("{} problems of connections", problems.len());
        }
        Ok(())
    }

    /// Deletes a workload's pods, which runtimes can do only while there is a network.
    fn gone(&self, workload: Workload<'_>) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}", workload.namespace);
        drop(workload);
        self.api
            .wait("its pods to be gone", Duration::from_secs(120), |api| Ok(api.find(&path)?.is_none().then_some(())))
    }

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

    /// Fails with what is there and should not be: against the state before everything, or after the installation; and with
    /// programs and maps that nobody has pinned any more and that the kernel still has.
    fn no_leak(&mut self, uninstalled: bool) -> Result<()> {
        step("leak check", || {
            let deadline = Instant::now() + Duration::from_secs(20);
            let (mut left, old) = loop {
                let now = Traces::take(self.cluster, self.api)?;
                let left = now.since(if uninstalled { &self.before } else { &self.installed });
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
            anyhow::ensure!(left.is_empty(), "{} things are left behind", left.len());
            Ok(())
        })
    }
}

#[derive(Debug, Default)]
struct Counts {
    answers: u64,
    new: u64,
    longest: Duration,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.longest = self.longest.max(other.longest);
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
