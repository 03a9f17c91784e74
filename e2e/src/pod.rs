//! Pods by name: where they are, and commands of this machine in their network namespace. Images hold few programs, and a
//! command that runs here can be pinned and timed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::api::Api;
use crate::cgroup::{Hierarchies, processes_below};
use crate::cluster::Cluster;
use crate::process::join_cgroup;
use crate::sandbox::enter_network;

impl Cluster {
    /// A command that will run in the network namespace of a pod.
    pub fn pod_command(&self, api: &Api, namespace: &str, pod: &str, program: &str) -> Result<Command> {
        let object = api
            .find(&format!("/api/v1/namespaces/{namespace}/pods/{pod}"))?
            .with_context(|| format!("there is no pod {namespace}/{pod}"))?;
        let mut command = Command::new(program);
        enter_network(&mut command, self.pod_network(&object)?);
        Ok(command)
    }

    /// The network namespace of a pod that runs on one of this cluster's nodes.
    pub fn pod_network(&self, pod: &Value) -> Result<File> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (node, uid, name) =
            (text(&pod["spec"]["nodeName"]), text(&pod["metadata"]["uid"]), text(&pod["metadata"]["name"]));
        let pods = Hierarchies::find()?.v2().join(&node).join("kubepods");
        let group = pod_group(&pods, &uid)
            .with_context(|| format!("pod {name} has no cgroup on {node:?}: it does not run yet"))?;
        let process =
            processes_below(&group).into_iter().next().with_context(|| format!("pod {name} has no process yet"))?;
        File::open(format!("/proc/{}/ns/net", process.pid)).context("the pod's process ended")
    }

    /// A command that will run as a process of node `index`: in its network namespace, and in its cgroup, where programs
    /// that translate services at the socket hang.
    pub fn node_command(&self, index: u8, program: &str) -> Result<Command> {
        let state = self.folder.expect()?;
        let node = state.nodes.get(&index).with_context(|| format!("there is no node {index}"))?;
        let mut command = Command::new(program);
        join_cgroup(&mut command, &Hierarchies::find()?.system(&self.folder.node_name(index)))?;
        enter_network(&mut command, File::open(format!("/proc/{}/ns/net", node.init.pid)).context("the node is gone")?);
        Ok(command)
    }
}

/// A pod's cgroup: directly below for guaranteed pods, else below that of its class.
fn pod_group(pods: &Path, uid: &str) -> Option<PathBuf> {
    let name = format!("pod{uid}");
    ["", "burstable", "besteffort"].iter().map(|class| pods.join(class).join(&name)).find(|dir| dir.is_dir())
}
