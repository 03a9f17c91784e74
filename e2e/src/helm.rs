//! Installing this project into a cluster: images into the nodes, then the chart, as a user would.

use std::path::Path;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::kubectl::run;
use crate::progress::step;
use crate::{images, node};

/// Builds and loads the images, and installs or upgrades the release `axoneme`.
pub fn deploy(cluster: &Cluster, values: Option<&Path>) -> Result<()> {
    let archives = images::axoneme_images(&cluster.paths)?;
    cluster.load(&archives)?;
    let host = cluster.folder.expect()?.addresses().api_server().to_string();
    let mut helm = cluster.helm()?;
    helm.args(["upgrade", "--install", "axoneme"]).arg(cluster.paths.repository.join("charts/axoneme"));
    helm.args(["--namespace", "kube-system", "--wait", "--timeout", "3m"]);
    helm.arg("--set").arg(format!("k8sServiceHost={host},k8sServicePort=6443"));
    helm.arg("--set").arg(format!("cgroup.hostRoot={}", node::CGROUP_ROOT));
    // The chart's default range holds the harness' Services.
    helm.args(["--set", "ipam.operator.clusterPoolIPv4PodCIDRList={10.244.0.0/16}"]);
    // The images' names stay the same; this makes pods new when what is in them is.
    for (component, archive) in ["operator.podAnnotations", "podAnnotations"].iter().zip(&archives) {
        let content = archive.file_stem().unwrap_or_default().to_string_lossy();
        helm.arg("--set-string").arg(format!("{component}.image={content}"));
    }
    if let Some(values) = values {
        helm.arg("--values").arg(values);
    }
    step("helm install axoneme charts/axoneme --wait", || run(&mut helm))?;
    let api = cluster.api()?;
    step("nodes are ready", || cluster.wait_nodes_ready(&api, std::time::Duration::from_secs(60)))
}
