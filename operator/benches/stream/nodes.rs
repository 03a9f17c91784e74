//! The nodes of the measurement, all in one process: told what to do line by line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use axoneme_proto::PROTOCOL;
use axoneme_proto::buckets::{self, Sums};
use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{Ack, AllAttached, Cursor, Delta, HeldScope, Hello, NodeMessage, Observation};
use prost::Message;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::dial::{self, dial};

/// Calls this process the nodes'.
pub const ARGUMENT: &str = "--nodes";

/// Nodes that dial at the same time; the operator does not take more handshakes at once.
const DIALLING: usize = 64;

/// What came of an order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub seconds: f64,
    pub rows: u64,
    pub bytes: u64,
}

/// What all nodes have received.
#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
}

struct Node {
    name: String,
    tls: ClientConfig,
    /// It keeps note of what all hold, for all.
    first: bool,
    /// Content hashes of what it holds, by scope.
    held: BTreeMap<String, BTreeMap<(i32, String), u64>>,
    cursor: Option<Cursor>,
}

type Running = JoinSet<Result<Node>>;

/// Does what stdin says until it ends.
pub async fn run() -> Result<()> {
    let ca = std::env::var("AXONEME_BENCH_CA").context("no CA")?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let (mut nodes, mut running) = (Vec::new(), Running::new());
    let counts = Arc::new(Counts::default());
    let mut end = watch::Sender::new(false);
    let mut committed: Vec<watch::Receiver<u64>> = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        counts.rows.store(0, Ordering::Relaxed);
        counts.bytes.store(0, Ordering::Relaxed);
        let start = Instant::now();
        match words[..] {
            ["join", address, number] => {
                for number in 0..number.parse()? {
                    nodes.push(join(address, &ca, format!("node-{number}")).await?);
                }
            }
            ["connect", address, revision] => {
                end = watch::Sender::new(false);
                committed.clear();
                let dialling = Arc::new(tokio::sync::Semaphore::new(DIALLING));
                // They have come back in any order.
                let shared = nodes.iter().find(|node| node.first).map(Node::shared).unwrap_or_default();
                for node in nodes.drain(..) {
                    let (sender, receiver) = watch::channel(0);
                    committed.push(receiver);
                    let hello = node.hello(&shared);
                    let (counts, dialling) = (counts.clone(), dialling.clone());
                    let session = node.session(address.to_owned(), hello, counts, sender, end.subscribe(), dialling);
                    running.spawn(session);
                }
                reached(&mut committed, &mut running, revision.parse()?).await?;
            }
            ["await", revision] => reached(&mut committed, &mut running, revision.parse()?).await?,
            ["hang", "up"] => {
                end.send_replace(true);
                while let Some(node) = running.join_next().await {
                    nodes.push(node??);
                }
            }
            _ => bail!("what is {line:?}?"),
        }
        let (rows, bytes) = (counts.rows.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed));
        println!("{}", serde_json::to_string(&Done { seconds: start.elapsed().as_secs_f64(), rows, bytes })?);
    }
    Ok(())
}

/// Waits until all have committed this revision; a session that ends before is an error.
async fn reached(committed: &mut [watch::Receiver<u64>], running: &mut Running, revision: u64) -> Result<()> {
    for receiver in committed {
        tokio::select! {
            reached = receiver.wait_for(|at| *at >= revision) => drop(reached.context("a session has ended")?),
            Some(ended) = running.join_next() => bail!("a session has ended: {:?}", ended?.err()),
        }
    }
    Ok(())
}

async fn join(address: &str, ca: &str, name: String) -> Result<Node> {
    let tls = dial::join(address, ca, name.clone()).await?;
    Ok(Node { first: name == "node-0", name, tls, held: BTreeMap::new(), cursor: None })
}

impl Node {
    fn held(&self) -> impl Iterator<Item = HeldScope> {
        self.held.iter().map(|(scope, rows)| {
            let sums = buckets::count(rows.len()).map(|count| {
                let mut sums = Sums::new(count);
                rows.iter().for_each(|((table, key), hash)| sums.toggle(*table, key, *hash));
                sums.into()
            });
            let hash = rows.values().fold(0, |all, hash| all ^ hash);
            HeldScope { scope: scope.clone(), hash, buckets: sums.unwrap_or_default() }
        })
    }

    /// What all nodes hold alike.
    fn shared(&self) -> Vec<HeldScope> {
        self.held().filter(|held| !held.scope.starts_with("node/")).collect()
    }

    fn hello(&self, shared: &[HeldScope]) -> Hello {
        let own = self.held().filter(|held| held.scope.starts_with("node/"));
        Hello {
            node: self.name.clone(),
            protocol_min: *PROTOCOL.start(),
            protocol_max: *PROTOCOL.end(),
            features: u64::MAX,
            cursor: self.cursor.clone(),
            scopes: shared.iter().cloned().chain(own).collect(),
            ..Hello::default()
        }
    }

    /// One session; gives the node back when all shall hang up.
    async fn session(
        mut self,
        address: String,
        hello: Hello,
        counts: Arc<Counts>,
        committed: watch::Sender<u64>,
        mut end: watch::Receiver<bool>,
        dialling: Arc<tokio::sync::Semaphore>,
    ) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(4);
        sender.send(NodeMessage { message: Some(FromNode::Hello(hello)) }).await?;
        let permit = dialling.acquire_owned().await?;
        let mut client = dial(&address, self.tls.clone()).await?;
        drop(permit);
        let mut inbound = client.desired(ReceiverStream::new(receiver)).await?.into_inner();
        // No pod is attached here; the stream is there all the same.
        let (observations, receiver) = mpsc::channel(1);
        let event = Some(Event::AllAttached(AllAttached::default()));
        observations.send(Observation { node: self.name.clone(), sequence: 1, event }).await?;
        let _acks = client.observed(ReceiverStream::new(receiver)).await?;
        let mut epoch = Vec::new();
        loop {
            let message = tokio::select! {
                message = inbound.message() => message?.context("the operator ends the stream")?,
                _ = end.wait_for(|end| *end) => return Ok(self),
            };
            counts.bytes.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
            match message.message {
                Some(ToNode::Welcome(welcome)) => epoch = welcome.epoch,
                Some(ToNode::Delta(delta)) => {
                    counts.rows.fetch_add(delta.upserts.len() as u64, Ordering::Relaxed);
                    let (last, to) = (delta.last, delta.to_revision);
                    self.take(delta);
                    if last {
                        self.cursor = Some(Cursor { epoch: epoch.clone(), revision: to });
                        let ack = Ack { received: to, attempted: to, ..Ack::default() };
                        sender.send(NodeMessage { message: Some(FromNode::Ack(ack)) }).await?;
                        committed.send_replace(to);
                    }
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, delta: Delta) {
        for scope in delta.snapshots {
            self.held.insert(scope, BTreeMap::new());
        }
        for row in delta.upserts {
            let Some(key) = row.key.filter(|key| self.first || key.scope.starts_with("node/")) else { continue };
            self.held.entry(key.scope).or_default().insert((key.table, key.key), row.hash);
        }
        for key in delta.removals {
            self.held.entry(key.scope).or_default().remove(&(key.table, key.key));
        }
    }
}
