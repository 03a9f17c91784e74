//! `axoneme connectivity`: who reaches whom in a cluster, end to end.
//!
//! A few pods of the node's own image, in a namespace of their own, ask each other for their names: on one node and across two,
//! through a service, by the cluster's DNS, to and from hosts, to the outside if an address is given; then a NetworkPolicy is
//! applied and removed. All of it goes when the check ends.

mod pods;
mod report;
mod run;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, DAEMONS};
pub use report::{Report, render};

/// Between two looks at what has to come about.
const PAUSE: Duration = Duration::from_millis(300);

/// What is checked, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The image of the pods; it must hold axoneme-node. That of the DaemonSet if none is given
    #[arg(long)]
    pub image: Option<String>,
    /// The namespace that is made for them, and deleted
    #[arg(long, default_value = "axoneme-connectivity")]
    pub test_namespace: String,
    /// Somebody outside of the cluster who accepts TCP connections, ADDRESS:PORT; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub outside: Vec<std::net::SocketAddr>,
    /// Leaves pods and namespace for a look at them
    #[arg(long)]
    pub keep: bool,
    /// How long pods may take to be ready
    #[arg(long, value_parser = crate::duration, default_value = "2m")]
    pub timeout: Duration,
}

/// Checks a cluster.
///
/// # Errors
/// When its pods cannot be made or do not become ready. What fails between them is in the report.
pub async fn check(cluster: &Cluster, options: &Options) -> Result<Report> {
    let nodes = nodes(cluster).await?;
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            let members = cluster.members(DAEMONS).await?;
            members.into_iter().next().context("no daemon runs: give the image of the pods with --image")?.image
        }
    };
    make_namespace(cluster, &options.test_namespace, options.timeout).await?;
    let checked = tokio::select! {
        checked = run::run(cluster, options, &nodes, &image) => checked,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if options.keep {
        crate::tell(&format!("kept: namespace {}", options.test_namespace));
    } else {
        let namespaces = cluster.all::<Namespace>();
        let deleted = namespaces.delete(&options.test_namespace, &DeleteParams::default()).await;
        deleted.with_context(|| format!("namespace {} is left behind", options.test_namespace))?;
    }
    checked
}

/// Two nodes that take pods, or the only one.
async fn nodes(cluster: &Cluster) -> Result<Vec<String>> {
    let fit = |node: &Node| {
        let spec = node.spec.clone().unwrap_or_default();
        let closed = spec.taints.iter().flatten().any(|taint| taint.effect != "PreferNoSchedule");
        let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ready && !closed && spec.unschedulable != Some(true)
    };
    let nodes = cluster.list::<Node>().await?;
    let mut names: Vec<String> = nodes.into_iter().filter(fit).filter_map(|node| node.metadata.name).collect();
    if names.is_empty() {
        bail!("no node is ready for pods: see \"axoneme status\"");
    }
    names.sort();
    names.truncate(2);
    Ok(names)
}

/// Makes the namespace, when that of an earlier check is gone.
async fn make_namespace(cluster: &Cluster, name: &str, patience: Duration) -> Result<()> {
    let namespaces = cluster.all::<Namespace>();
    // Hosts are asked, too: pods on their network are not for every namespace.
    let labels =
        json!({"pod-security.kubernetes.io/enforce": "privileged", "app.kubernetes.io/name": "axoneme-connectivity"});
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
    let deadline = Instant::now() + patience;
    loop {
        match namespaces.create(&PostParams::default(), &namespace).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make namespace {name}")),
        }
        let other = namespaces.get_opt(name).await.with_context(|| format!("cannot read namespace {name}"))?;
        if other.is_some_and(|other| other.metadata.deletion_timestamp.is_none()) {
            bail!(
                "namespace {name} is there already: another check runs, or was kept (kubectl delete namespace {name}); or \
                 choose another one with --test-namespace"
            );
        }
        if Instant::now() > deadline {
            bail!("namespace {name} of an earlier check does not go; see: kubectl get namespace {name} -o yaml");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
