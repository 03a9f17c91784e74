//! All nodes and daemons, and which of them are to be looked at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{NodeCondition, PodCondition};
use kube::Client;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::decide::{Marked, Step, decide};
use super::write::{Write, is_said};
use super::{Marks, Node, Pod};
use crate::leader::Tenure;

/// Nodes that are written to at a time.
const CONCURRENT: usize = 10;

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(2);

/// A wait without anything to wait for.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Board {
    marks: Marks,
    nodes: HashMap<String, Marked>,
    /// Whether daemons' pods are ready, by node and name: there are two while one follows another.
    daemons: HashMap<String, HashMap<String, bool>>,
    ready: HashSet<String>,
    /// Since when a node that was ready is not.
    lost: HashMap<String, Instant>,
    /// Nodes to be looked at, now and later.
    dirty: BTreeSet<String>,
    later: HashMap<String, Instant>,
    writing: HashSet<String>,
}

impl Board {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            nodes: HashMap::new(),
            daemons: HashMap::new(),
            ready: HashSet::new(),
            lost: HashMap::new(),
            dirty: BTreeSet::new(),
            later: HashMap::new(),
            writing: HashSet::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        client: Client,
        tenure: Tenure,
        nodes: impl Stream<Item = Result<Event<Node>, watcher::Error>>,
        pods: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
    ) {
        let (mut nodes, mut pods) = (pin!(nodes), pin!(pods));
        let mut writes = FuturesUnordered::new();
        loop {
            while writes.len() < CONCURRENT
                && tenure.holds()
                && let Some((node, write)) = self.next(Instant::now())
            {
                let client = client.clone();
                writes.push(async move {
                    let result = write.send(&client, &node).await;
                    (node, result)
                });
            }
            let wake = self.later.values().min().copied().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                Some(event) = nodes.next() => match event {
                    Ok(event) => self.node(event),
                    Err(error) => warn!(%error, "the watch of nodes' taints was interrupted"),
                },
                Some(event) = pods.next() => match event {
                    Ok(event) => self.pod(event, Instant::now()),
                    Err(error) => warn!(%error, "the watch of the daemons' pods was interrupted"),
                },
                Some((node, result)) = writes.next() => self.written(node, result),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// The next node that is to be written to, and what.
    pub(super) fn next(&mut self, now: Instant) -> Option<(String, Write)> {
        self.dirty.extend(self.later.extract_if(|_, at| *at <= now).map(|(node, _)| node));
        while let Some(node) = self.dirty.iter().find(|node| !self.writing.contains(*node)).cloned() {
            self.dirty.remove(&node);
            let Some(marked) = self.nodes.get(&node) else { continue };
            let ready = self.daemons.get(&node).map(|pods| pods.values().any(|ready| *ready));
            match decide(&self.marks, marked, ready, self.lost.get(&node).copied(), now) {
                Step::Nothing => {}
                Step::At(time) => drop(self.later.insert(node, time)),
                Step::Write(write) => {
                    self.writing.insert(node.clone());
                    return Some((node, write));
                }
            }
        }
        None
    }

    /// What was written comes back as an event, by which the node is judged again.
    pub(super) fn written(&mut self, node: String, result: Result<(), kube::Error>) {
        self.writing.remove(&node);
        let Err(error) = result else { return };
        match &error {
            kube::Error::Api(status) if status.is_conflict() || status.is_not_found() => {
                debug!(node, %error, "the node has changed meanwhile");
            }
            _ => warn!(node, %error, "the node cannot be marked"),
        }
        self.later.insert(node, Instant::now() + AGAIN);
    }

    pub(super) fn node(&mut self, event: Event<Node>) {
        match event {
            Event::Init => self.nodes.clear(),
            Event::InitApply(node) | Event::Apply(node) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                let marked = marked(node);
                self.nodes.insert(name.clone(), marked);
                self.dirty.insert(name);
            }
            Event::Delete(node) => {
                let name = node.metadata.name.unwrap_or_default();
                self.nodes.remove(&name);
                self.lost.remove(&name);
                self.ready.remove(&name);
                self.later.remove(&name);
            }
            Event::InitDone => {}
        }
    }

    pub(super) fn pod(&mut self, event: Event<Pod>, now: Instant) {
        let (pod, gone) = match event {
            // Until they are listed, nodes are left as they are.
            Event::Init => return self.daemons.clear(),
            Event::InitDone => return,
            Event::InitApply(pod) | Event::Apply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
        };
        let Some(node) = pod.spec.node_name.filter(|node| !node.is_empty()) else { return };
        let name = pod.metadata.name.unwrap_or_default();
        let pods = self.daemons.entry(node.clone()).or_default();
        if gone {
            pods.remove(&name);
        } else {
            let ready = |condition: &PodCondition| condition.type_ == "Ready" && condition.status == "True";
            pods.insert(name, pod.status.conditions.iter().flatten().any(ready));
        }
        if pods.values().any(|ready| *ready) {
            self.lost.remove(&node);
            self.ready.insert(node.clone());
        } else if self.ready.remove(&node) {
            self.lost.insert(node.clone(), now);
        }
        if pods.is_empty() {
            self.daemons.remove(&node);
        }
        self.dirty.insert(node);
    }
}

fn marked(node: Node) -> Marked {
    let conditions: Vec<NodeCondition> = node.status.conditions.unwrap_or_default();
    Marked {
        version: node.metadata.resource_version.unwrap_or_default(),
        taints: node.spec.taints.unwrap_or_default(),
        available: conditions.iter().any(|condition| is_said(condition) && condition.status == "False"),
    }
}
