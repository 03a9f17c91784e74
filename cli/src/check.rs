//! `axoneme check`: whether nodes are fit for this network, and what is in its way.
//!
//! Where a daemon runs, it is asked. Where none does, yet, a pod of the node's image looks at the host for a moment; it needs no
//! network of pods.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use axoneme_admin::check::{Level, Report};
use axoneme_admin::show;
use axoneme_admin::table::Tone;
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use serde::Serialize;
use serde_json::json;

use crate::cluster::{Cluster, DAEMONS, NODE_BINARY};

/// Pods that look at a time.
const AT_ONCE: usize = 16;
/// How long a pod may take, with its image to be pulled.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

/// What is looked at.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only these nodes
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// The node's image, for nodes on which no daemon runs yet; that of the DaemonSet if there is one
    #[arg(long)]
    pub image: Option<String>,
    /// Says what is as it should be, too
    #[arg(long)]
    pub all: bool,
}

/// A node that was looked at.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// Its name.
    pub node: String,
    /// What was found.
    pub report: Option<Report>,
    /// Why nothing was.
    pub error: Option<String>,
}

/// Looks at all nodes that are wanted.
///
/// # Errors
/// When the API server does not tell, or no image is known to look with.
pub async fn check(cluster: &Cluster, options: &Options) -> Result<Vec<Looked>> {
    let mut nodes: Vec<String> =
        cluster.list::<Node>().await?.into_iter().filter_map(|node| node.metadata.name).collect();
    if !options.nodes.is_empty() {
        if let Some(unknown) = options.nodes.iter().find(|node| !nodes.contains(node)) {
            bail!("there is no node {unknown}");
        }
        nodes.retain(|node| options.nodes.contains(node));
    }
    let daemons: BTreeMap<String, String> = cluster
        .members(DAEMONS)
        .await?
        .into_iter()
        .filter(|member| member.running)
        .map(|member| (member.node, member.pod))
        .collect();
    let image =
        if nodes.iter().all(|node| daemons.contains_key(node)) { None } else { Some(image(cluster, options).await?) };
    let looks = nodes.into_iter().map(|node| {
        let (daemon, image) = (daemons.get(&node), image.as_deref().unwrap_or_default());
        async move {
            let report = match daemon {
                Some(pod) => cluster.ask(pod, &[NODE_BINARY, "check", "-o", "json"]).await,
                None => by_pod(cluster, &node, image).await,
            };
            match report {
                Ok(report) => Looked { node, report: Some(report), error: None },
                Err(error) => Looked { node, report: None, error: Some(crate::error::line(&error)) },
            }
        }
    });
    Ok(stream::iter(looks).buffered(AT_ONCE).collect().await)
}

/// The image to look with.
async fn image(cluster: &Cluster, options: &Options) -> Result<String> {
    if let Some(image) = &options.image {
        return Ok(image.clone());
    }
    let set = cluster.own::<DaemonSet>().get_opt("axoneme").await?;
    let image = set.and_then(|set| set.spec?.template.spec?.containers.first()?.image.clone());
    let nothing =
        || format!("nothing is installed in namespace {}: give the image to look with by --image", cluster.namespace);
    image.with_context(nothing)
}

/// Looks at a node by a pod.
async fn by_pod(cluster: &Cluster, node: &str, image: &str) -> Result<Report> {
    let pods = cluster.own::<Pod>();
    let pod: Pod = serde_json::from_value(pod(node, image)).context("the pod makes no sense")?;
    let made = pods.create(&PostParams::default(), &pod).await.context("cannot make a pod that looks at the node")?;
    let name = made.metadata.name.unwrap_or_default();
    let report = finished(&pods, &name).await;
    // Its result counts more than what is left of it.
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.ok();
    report
}

async fn finished(pods: &Api<Pod>, name: &str) -> Result<Report> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = pods.get(name).await?.status.unwrap_or_default();
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            let text = pods.logs(name, &LogParams::default()).await?;
            return serde_json::from_str(&text).map_err(|_| anyhow!("{}", text.trim()));
        }
        if Instant::now() > deadline {
            let waiting =
                status.container_statuses.as_ref().and_then(|all| all.first()?.state.as_ref()?.waiting.clone());
            let why = waiting.and_then(|waiting| waiting.message.or(waiting.reason)).unwrap_or_default();
            bail!("pod {name} has not run within {PATIENCE:?} {why}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn pod(node: &str, image: &str) -> serde_json::Value {
    json!({
        "metadata": {"generateName": "axoneme-check-", "labels": {"app.kubernetes.io/name": "axoneme-check"}},
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "hostPID": true,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "check",
                "image": image,
                "command": [NODE_BINARY, "check", "--root=/host", "-o", "json"],
                // The kernel is asked by trying.
                "securityContext": {"privileged": true, "runAsUser": 0},
                "volumeMounts": [
                    {"name": "host", "mountPath": "/host", "readOnly": true, "mountPropagation": "HostToContainer"}
                ],
            }],
            "volumes": [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}],
        },
    })
}

/// Whether nothing is bad on any node.
#[must_use]
pub fn is_good(looked: &[Looked]) -> bool {
    looked.iter().all(|node| node.report.as_ref().is_some_and(|report| report.level() < Level::Bad))
}

/// As text, node by node; nodes of which there is nothing to say share a line.
#[must_use]
pub fn render(looked: &[Looked], all: bool, colours: bool) -> String {
    let mut out = String::new();
    let mut fit = Vec::new();
    for Looked { node, report, error } in looked {
        let Some(report) = report else {
            let error = error.as_deref().unwrap_or_default();
            out.push_str(&format!(
                "{}\n{}  {error}\n\n",
                Tone::Strong.paint(node, colours),
                Tone::Bad.paint("bad ", colours)
            ));
            continue;
        };
        let text = show::report(report, all, colours);
        if text.is_empty() {
            fit.push(node.as_str());
            continue;
        }
        let installed = if report.installed { "a daemon runs" } else { "no daemon runs yet" };
        out.push_str(&format!("{} ({installed})\n{text}\n", Tone::Strong.paint(node, colours)));
    }
    if !fit.is_empty() {
        out.push_str(&format!("{}  nothing is in the way on {}\n", Tone::Good.paint("ok  ", colours), fit.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use axoneme_admin::check::Finding;

    use super::*;

    #[test]
    fn nodes_are_told_of_one_by_one() {
        let looked = |node: &str, findings: Vec<Finding>| Looked {
            node: node.into(),
            report: Some(Report { findings, ..Report::default() }),
            error: None,
        };
        let all = [
            looked("n1", vec![Finding::good("kernel", "fine")]),
            looked("n2", vec![Finding::bad("bpffs", "not mounted", "mount it")]),
            Looked { node: "n3".into(), report: None, error: Some("no pod".into()) },
            looked("n4", vec![]),
        ];
        assert_eq!(
            render(&all, false, false),
            "\
n2 (no daemon runs yet)
bad   bpffs: not mounted
      -> mount it

n3
bad   no pod

ok    nothing is in the way on n1, n4
"
        );
        assert!(!is_good(&all) && is_good(&all[..1]));
        assert!(serde_json::from_value::<Pod>(pod("n", "i")).is_ok());
    }
}
