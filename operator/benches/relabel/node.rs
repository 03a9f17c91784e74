//! A node of the measurement: takes rows in as a daemon does, says what is attached, and looks at what it holds after each commit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use axoneme_proto::address::from_bytes;
use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{Ack, AllAttached, Attached, Delta, Hello, NodeMessage, Observation, Row, RowKey};
use axoneme_proto::tables::{Endpoint, Peer};
use axoneme_proto::{PROTOCOL, Scope, Table};
use prost::Message;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

use crate::dial::dial;
use crate::{NAMESPACE, PODS, PODS_OF_NODE};

/// What a node has seen so far.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Pods whose address and identity it knows.
    pub peers: usize,
    /// How often all pods have taken other identities in one commit.
    pub changes: usize,
    /// When they did last.
    pub changed: Instant,
    /// Commits that were looked at.
    pub commits: usize,
    /// Those of them with an old and a new identity in it, or a pod with none or two, or one without its policy.
    pub torn: usize,
}

/// A pod that is attached, for who is its kubelet.
#[derive(Debug)]
pub struct Started {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// One node.
pub struct Node {
    pub name: String,
    pub tls: ClientConfig,
    pub seen: watch::Sender<Seen>,
    pub started: mpsc::UnboundedSender<Started>,
    /// All pods are there: from now on commits are looked at.
    pub settled: Arc<AtomicBool>,
}

impl Node {
    /// One session, which lasts as long as the operator does.
    pub async fn run(self, address: String) -> Result<()> {
        let (sender, receiver) = mpsc::channel(4);
        let hello = Hello {
            node: self.name.clone(),
            protocol_min: *PROTOCOL.start(),
            protocol_max: *PROTOCOL.end(),
            features: u64::MAX,
            ..Hello::default()
        };
        sender.send(NodeMessage { message: Some(FromNode::Hello(hello)) }).await?;
        let mut client = dial(&address, self.tls.clone()).await?;
        let mut inbound = client.desired(ReceiverStream::new(receiver)).await?.into_inner();
        let (observations, receiver) = mpsc::unbounded_channel();
        let mut observer = Observer { node: self.name.clone(), observations, sequence: 0, told: BTreeMap::new() };
        observer.tell(Event::AllAttached(AllAttached::default()))?;
        let mut acks = client.observed(UnboundedReceiverStream::new(receiver)).await?.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = acks.message().await {} });
        let (mut held, mut staged, mut label) = (Held::default(), Vec::new(), BTreeSet::new());
        loop {
            let message = inbound.message().await?.context("the operator ends the stream")?;
            let Some(ToNode::Delta(delta)) = message.message else { continue };
            let (last, to) = (delta.last, delta.to_revision);
            staged.push(delta);
            if !last {
                continue;
            }
            staged.drain(..).try_for_each(|delta| held.take(delta))?;
            let ack = Ack { received: to, attempted: to, ..Ack::default() };
            sender.send(NodeMessage { message: Some(FromNode::Ack(ack)) }).await?;
            self.look(&held, &mut label);
            for started in observer.observe(&held)? {
                self.started.send(started)?;
            }
        }
    }

    /// `label` is what pods' identities were when they were last all of one label.
    fn look(&self, held: &Held, label: &mut BTreeSet<u32>) {
        let now = held.identities();
        let settled = self.settled.load(Ordering::Relaxed);
        let changed = now.is_disjoint(label);
        let torn = !held.is_whole() || !(changed || now == *label);
        self.seen.send_modify(|seen| {
            seen.peers = held.peers.len();
            if settled {
                seen.commits += 1;
                seen.torn += usize::from(torn);
            }
            if settled && changed {
                seen.changes += 1;
                seen.changed = Instant::now();
            }
        });
        if changed || !settled {
            *label = now;
        }
    }
}

/// The rows that a node holds, as far as they are about the namespace's pods.
#[derive(Default)]
struct Held {
    /// The node's own pods by UID.
    endpoints: BTreeMap<String, Endpoint>,
    /// Identities of all pods by scope and UID: one that has two identities is here twice.
    peers: BTreeMap<(String, String), u32>,
    /// Scopes with a row of policy.
    policies: BTreeSet<String>,
}

impl Held {
    fn take(&mut self, delta: Delta) -> Result<()> {
        delta.snapshots.iter().for_each(|scope| self.clear(scope));
        delta.upserts.into_iter().try_for_each(|row| self.upsert(row))?;
        delta.removals.into_iter().for_each(|key| self.remove(key));
        delta.dropped_scopes.iter().for_each(|scope| self.clear(scope));
        Ok(())
    }

    fn clear(&mut self, scope: &str) {
        self.peers.retain(|(of, _), _| of != scope);
        self.policies.remove(scope);
        if scope.starts_with("node/") {
            self.endpoints.clear();
        }
    }

    fn upsert(&mut self, row: Row) -> Result<()> {
        let key = row.key.context("a row without a key")?;
        match Table::try_from(key.table)? {
            Table::Endpoint => {
                let endpoint = Endpoint::decode(&*row.payload)?;
                if endpoint.namespace == NAMESPACE {
                    self.endpoints.insert(key.key, endpoint);
                }
            }
            Table::Peer => {
                let peer = Peer::decode(&*row.payload)?;
                if peer.namespace == NAMESPACE {
                    self.peers.insert((key.scope, key.key), peer.identity);
                }
            }
            Table::Policy => drop(self.policies.insert(key.scope)),
            _ => {}
        }
        Ok(())
    }

    fn remove(&mut self, key: RowKey) {
        match Table::try_from(key.table) {
            Ok(Table::Endpoint) => drop(self.endpoints.remove(&key.key)),
            Ok(Table::Peer) => drop(self.peers.remove(&(key.scope, key.key))),
            Ok(Table::Policy) => drop(self.policies.remove(&key.scope)),
            _ => {}
        }
    }

    /// All that pods of the namespace have here.
    fn identities(&self) -> BTreeSet<u32> {
        self.endpoints.values().map(|endpoint| endpoint.identity).chain(self.peers.values().copied()).collect()
    }

    /// Whether every pod has one identity, and every own one the policy of its identity.
    fn is_whole(&self) -> bool {
        let pods: BTreeSet<&String> = self.peers.keys().map(|(_, pod)| pod).collect();
        let has_policy = |endpoint: &Endpoint| self.policies.contains(&Scope::Policy(endpoint.identity).to_string());
        pods.len() == PODS
            && self.peers.len() == PODS
            && self.endpoints.len() == PODS_OF_NODE
            && self.endpoints.values().all(has_policy)
    }
}

/// Says what is attached, and with which identity.
struct Observer {
    node: String,
    observations: mpsc::UnboundedSender<Observation>,
    sequence: u64,
    told: BTreeMap<String, u32>,
}

impl Observer {
    fn tell(&mut self, event: Event) -> Result<()> {
        self.sequence += 1;
        Ok(self.observations.send(Observation {
            node: self.node.clone(),
            sequence: self.sequence,
            event: Some(event),
        })?)
    }

    /// Attaches what can be, and says of what is attached when its identity is another one. Gives back who has just started.
    fn observe(&mut self, held: &Held) -> Result<Vec<Started>> {
        let mut started = Vec::new();
        for (number, (uid, endpoint)) in (1..).zip(&held.endpoints) {
            if endpoint.addresses.is_empty() || endpoint.identity == 0 {
                continue;
            }
            let before = self.told.insert(uid.clone(), endpoint.identity);
            if before == Some(endpoint.identity) {
                continue;
            }
            self.tell(Event::Attached(Attached {
                pod_uid: uid.clone(),
                pod_namespace: endpoint.namespace.clone(),
                pod_name: endpoint.name.clone(),
                container_id: uid.clone(),
                addresses: endpoint.addresses.clone(),
                from_reserve: false,
                endpoint_id: number,
                identity: endpoint.identity,
            }))?;
            if before.is_none() {
                let addresses =
                    endpoint.addresses.iter().map(|address| from_bytes(address)).collect::<Result<_, _>>()?;
                started.push(Started { name: endpoint.name.clone(), addresses });
            }
        }
        Ok(started)
    }
}
