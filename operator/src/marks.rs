//! What Kubernetes is to know of a node's network: the taint that keeps pods away while there is none, and the condition
//! `NetworkUnavailable`.
//!
//! Which daemons are ready is told by Kubernetes (their pods' conditions) and not by the stream: a node that has lost its operator
//! works. Names and meaning are Cilium's.

mod board;
mod decide;
mod write;

use k8s_openapi::api::core::v1::{self, NodeCondition, Taint};
use kube::api::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Deserialize;

use crate::leader::Tenure;
use board::Board;

pub use write::unmark;

/// What is marked, and where daemons are found.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Namespace of the daemons' pods.
    pub namespace: String,
    /// Their label selector.
    pub selector: String,
    /// Key of the taint.
    pub taint: String,
    /// Take the taint off nodes whose daemon is ready.
    pub remove: bool,
    /// Taint nodes whose daemon is not.
    pub set: bool,
    /// Say that the network of nodes whose daemon is ready is available.
    pub condition: bool,
}

/// A Node, of which only this is read.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Node)]
struct Node {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    taints: Option<Vec<Taint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Option<Vec<NodeCondition>>,
}

/// A daemon's pod.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Pod)]
struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    conditions: Option<Vec<v1::PodCondition>>,
}

/// Marks nodes while the tenure holds. Never returns; `watching` is for requests that last.
pub async fn mark_nodes(client: Client, watching: Client, marks: Marks, tenure: Tenure) {
    if !(marks.remove || marks.set || marks.condition) {
        return std::future::pending().await;
    }
    let nodes = watcher(Api::<Node>::all(watching.clone()), watcher::Config::default());
    let pods = Api::<Pod>::namespaced(watching, &marks.namespace);
    let pods = watcher(pods, watcher::Config::default().labels(&marks.selector));
    Board::new(marks).run(client, tenure, nodes.default_backoff(), pods.default_backoff()).await;
}

#[cfg(test)]
mod tests;
