//! The end of an installation, as a Job that Helm runs before it deletes anything: no operator, clean nodes, and nothing that an
//! operator has made beside the definitions and their objects.
//!
//! Nodes are cleaned by their own DaemonSet, whose program is told `cleanup` in place of its daemon's work. Nothing else ever says
//! that word, so neither a rollout, nor an eviction, nor a DaemonSet that is deleted takes a network away. Each step may be
//! repeated, and an upgrade in between puts everything back.

mod nodes;

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::leader::{CA_SECRET, LEASE, OPERATORS_CONFIG_MAP};
use crate::marks;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What the Job is told.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "axoneme-operator uninstall", version, about = "Takes the network off all nodes")]
pub struct Flags {
    /// Namespace of the release.
    #[arg(long)]
    pub pod_namespace: String,
    /// The operator's Deployment.
    #[arg(long, default_value = "axoneme-operator")]
    pub deployment: String,
    /// Label selector of its pods.
    #[arg(long, default_value = "app.kubernetes.io/name=axoneme-operator")]
    pub operators: String,
    /// The nodes' DaemonSet.
    #[arg(long, default_value = "axoneme")]
    pub daemon_set: String,
    /// Label selector of its pods.
    #[arg(long, default_value = "app.kubernetes.io/name=axoneme")]
    pub daemons: String,
    /// Key of the taint of nodes that are not ready.
    #[arg(long, default_value = "node.cilium.io/agent-not-ready")]
    pub taint: String,
    /// How long all of it may take.
    #[arg(long, default_value_t = 240)]
    pub timeout_seconds: u64,
    /// What is logged.
    #[arg(long, default_value = "info")]
    pub log: String,
}

/// Uninstalls what Helm cannot.
///
/// # Errors
/// Naming the nodes that could not be cleaned in time, or what the API server refuses.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    crate::telemetry::init(&flags.log)?;
    let client = Client::try_default().await.context("no API server is configured")?;
    let deadline = Instant::now() + Duration::from_secs(flags.timeout_seconds);
    let job = Uninstall { client, flags, deadline };
    job.stop_operators().await?;
    job.clean_nodes().await?;
    job.unmark_nodes().await?;
    job.delete::<ConfigMap>(OPERATORS_CONFIG_MAP).await?;
    job.delete::<Secret>(CA_SECRET).await?;
    job.delete::<Lease>(LEASE).await?;
    info!("done: the definitions of cilium.io and their objects stay");
    Ok(())
}

struct Uninstall {
    client: Client,
    flags: Flags,
    deadline: Instant,
}

impl Uninstall {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.flags.pod_namespace)
    }

    /// An operator would mark nodes again, and hand out addresses.
    async fn stop_operators(&self) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        match self.api::<Deployment>().patch(&self.flags.deployment, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => info!("there is no operator"),
            result => drop(result.context("the operator cannot be stopped")?),
        }
        let selected = ListParams::default().labels(&self.flags.operators);
        loop {
            let left = match self.api::<Pod>().list(&selected).await {
                Ok(pods) if pods.items.is_empty() => return Ok(()),
                Ok(pods) => format!("{} operators run", pods.items.len()),
                Err(error) => error.to_string(),
            };
            self.pause(|| left).await?;
        }
    }

    /// Replaces the daemons by what cleans, on all nodes at once, and waits until it has.
    async fn clean_nodes(&self) -> anyhow::Result<()> {
        let sets = self.api::<DaemonSet>();
        let Some(set) = sets.get_opt(&self.flags.daemon_set).await.context("the DaemonSet cannot be read")? else {
            warn!("there is no DaemonSet {}: nodes stay as they are", self.flags.daemon_set);
            return Ok(());
        };
        let selected = ListParams::default().labels(&self.flags.daemons);
        // While one pod follows another a node has none.
        let mut concerned = nodes::of(&self.api::<Pod>().list(&selected).await.context("pods cannot be listed")?.items);
        if let Some(patch) = nodes::cleaning(&set).context("this DaemonSet is none of this chart's")? {
            let patch = Patch::Strategic(patch);
            let patched = sets.patch(&self.flags.daemon_set, &PatchParams::default(), &patch).await;
            patched.context("the DaemonSet cannot be told to clean")?;
        }
        info!(nodes = concerned.len(), "nodes are cleaned");
        loop {
            let left = match (self.api::<Pod>().list(&selected).await, self.nodes().await) {
                (Ok(pods), Ok(all)) => {
                    concerned.extend(nodes::of(&pods.items));
                    let left = nodes::left(&concerned, &pods.items, &all);
                    if left.waiting.is_empty() {
                        left.silent.iter().for_each(|node| warn!(node, "is silent and was not cleaned"));
                        return Ok(());
                    }
                    format!("not clean: {}", left.waiting.join(", "))
                }
                (Err(error), _) | (_, Err(error)) => error.to_string(),
            };
            self.pause(|| left).await?;
        }
    }

    async fn unmark_nodes(&self) -> anyhow::Result<()> {
        loop {
            let mut failed = None;
            for node in self.nodes().await? {
                match marks::unmark(&self.client, &node, &self.flags.taint).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    result => failed = result.err().or(failed),
                }
            }
            let Some(error) = failed else { return Ok(()) };
            self.pause(|| format!("a node's taint stays: {error}")).await?;
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>, kube::Error> {
        Ok(Api::all(self.client.clone()).list(&ListParams::default()).await?.items)
    }

    async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result.map(drop).with_context(|| format!("{name} cannot be deleted")),
        }
    }

    async fn pause(&self, state: impl FnOnce() -> String) -> anyhow::Result<()> {
        if Instant::now() >= self.deadline {
            bail!("not done after {} s; {}", self.flags.timeout_seconds, state());
        }
        sleep(PAUSE).await;
        Ok(())
    }
}
