//! A namespace of 1,000 pods gets another label: `make bench SET=policy`, or `cargo bench -p axoneme-operator --bench relabel`.
//!
//! API server, etcd and operator are real, each a process of its own. The pods are objects that no kubelet knows; what kubelets and
//! daemons do is done here, for all nodes: they join with their pods' tokens, take rows in, acknowledge them, say what is attached
//! with which identity, and write that pods run. By a policy each pod is a peer of all, so every node holds the rows of all.
//! Prints a line of JSON for each figure.
//!
//! Times are from the API server's answer to the write of the label, to the commit of the last node in which no pod has an identity
//! of the old label. What a kernel's maps take after that is not in them. After every commit each node looks at all that it holds:
//! each pod has to have one identity, and all of them one of the same label.

#[path = "relabel/cluster.rs"]
mod cluster;
#[path = "stream/dial.rs"]
mod dial;
#[path = "relabel/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axoneme_e2e::api_server::ApiServer;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use cluster::Cluster;
use node::{Node, Seen};

const NAMESPACE: &str = "shop";
const NODES: usize = 10;
const PODS: usize = 1_000;
const PODS_OF_NODE: usize = PODS / NODES;
/// Different ones among the pods: each is a label set of its own.
const APPS: usize = 10;
const ROUNDS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// CiliumEndpoints are looked at so often between rounds.
const LOOK: Duration = Duration::from_secs(1);

/// All nodes, and what they have seen.
struct Nodes {
    seen: Vec<watch::Receiver<Seen>>,
    sessions: JoinSet<Result<()>>,
}

impl Nodes {
    /// Waits until every node has seen this.
    async fn until(&mut self, what: &str, holds: impl Fn(&Seen) -> bool) -> Result<()> {
        let waiting = async {
            for seen in &mut self.seen {
                seen.wait_for(&holds).await.context("a session has ended")?;
            }
            Ok(())
        };
        tokio::select! {
            all = waiting => all,
            Some(ended) = self.sessions.join_next() => bail!("a session has ended: {:?}", ended?.err()),
            () = tokio::time::sleep(PATIENCE) => bail!("{what} does not come"),
        }
    }

    fn sum(&self, count: impl Fn(&Seen) -> usize) -> usize {
        self.seen.iter().map(|seen| count(&seen.borrow())).sum()
    }

    /// When the last one has changed.
    fn changed(&self) -> Option<Instant> {
        self.seen.iter().map(|seen| seen.borrow().changed).max()
    }
}

/// Objects of a kind of Cilium's, in all namespaces.
async fn cilium(cluster: &Cluster, kind: &str) -> Result<Vec<DynamicObject>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cilium.io", "v2", kind));
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    Ok(api.list(&ListParams::default()).await?.items)
}

async fn identities(cluster: &Cluster) -> Result<BTreeSet<String>> {
    Ok(cilium(cluster, "CiliumIdentity").await?.into_iter().filter_map(|object| object.metadata.name).collect())
}

/// Waits until CiliumEndpoints, which the operator writes at leisure, say what nodes enforce: then nothing is left to be done.
async fn at_rest(cluster: &Cluster, label: &str) -> Result<()> {
    let label = format!("k8s:io.cilium.k8s.namespace.labels.team={label}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let says_so = |endpoint: &&DynamicObject| {
            let labels = endpoint.data["status"]["identity"]["labels"].as_array();
            labels.is_some_and(|labels| labels.iter().any(|have| *have == *label))
        };
        let settled = cilium(cluster, "CiliumEndpoint").await?.iter().filter(says_so).count();
        if settled == PODS {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {settled} CiliumEndpoints say {label}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn say(name: &str, value: f64, unit: &str, at_most: Option<f64>) {
    println!("{}", json!({"name": name, "value": value, "unit": unit, "at_most": at_most}));
}

/// All pods run, and every node knows all of them.
async fn prepare(cluster: &Cluster, settled: &Arc<AtomicBool>) -> Result<Nodes> {
    let (started, attached) = mpsc::unbounded_channel();
    let mut nodes = Nodes { seen: Vec::new(), sessions: JoinSet::new() };
    for number in 0..NODES {
        let (name, tls) = cluster.node(number).await?;
        let seen = watch::Sender::new(Seen { peers: 0, changes: 0, changed: Instant::now(), commits: 0, torn: 0 });
        nodes.seen.push(seen.subscribe());
        let node = Node { name, tls, seen, started: started.clone(), settled: Arc::clone(settled) };
        nodes.sessions.spawn(node.run(cluster.address.clone()));
    }
    tokio::try_join!(cluster.pods(), cluster.kubelets(attached))?;
    nodes.until("every pod at every node", |seen| seen.peers == PODS).await?;
    Ok(nodes)
}

async fn measure(server: ApiServer) -> Result<()> {
    let cluster = Cluster::start(server).await?;
    let settled = Arc::new(AtomicBool::new(false));
    let mut nodes = prepare(&cluster, &settled).await?;
    settled.store(true, Ordering::Relaxed);
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let (mut times, mut created) = (Vec::new(), 0);
    // The first one is not counted: nothing is at rest before it.
    for round in 0..=ROUNDS {
        let before = identities(&cluster).await?;
        let label = format!("team-{round}");
        let patch = Patch::Merge(json!({"metadata": {"labels": {"team": label}}}));
        namespaces.patch(NAMESPACE, &PatchParams::default(), &patch).await?;
        let written = Instant::now();
        nodes.until("the label at every node", |seen| seen.changes == round + 1).await?;
        let changed = nodes.changed().context("no nodes")?;
        if round > 0 {
            times.push(changed.saturating_duration_since(written).as_secs_f64() * 1e3);
            created = created.max(identities(&cluster).await?.difference(&before).count());
        }
        at_rest(&cluster, &label).await?;
    }
    times.sort_by(f64::total_cmp);
    let name = |what: &str| format!("a namespace of {PODS} pods relabelled, {APPS} label sets, {NODES} nodes: {what}");
    say(&name("written to every node's rows, half of the times at most"), times[times.len() / 2], "ms", None);
    say(&name(&format!("slowest of {ROUNDS}")), times[times.len() - 1], "ms", Some(500.0));
    say("identities made for each new label set, at most", created as f64 / APPS as f64, "", Some(1.0));
    say("commits of nodes that were looked at meanwhile", nodes.sum(|seen| seen.commits) as f64, "", None);
    let torn = nodes.sum(|seen| seen.torn) as f64;
    say("those with identities of both labels, or a pod with none or two, or without its policy", torn, "", Some(0.0));
    Ok(())
}

fn main() -> Result<()> {
    // `cargo test` builds and calls this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(server))
}
