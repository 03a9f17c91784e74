//! The stream of desired state: carries a session's chunks to the node, and its acks back.

use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{Delta, Drain, Hello, NodeMessage, OperatorMessage, Operators};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{Instrument, info, info_span};

use super::QUEUE;
use super::sessions::Sessions;
use crate::engine::{Handle, News, Session, SessionEnded};
use crate::publish::join::{Registrar, Vouch};
use crate::publish::session::Refused;
use crate::publish::tls::NodeName;

/// A node that has dialled says Hello within this time.
const HELLO: Duration = Duration::from_secs(10);

/// After a restart, a Node may be known to the API server and not yet to the index.
const UNKNOWN_NODE: (Duration, u32) = (Duration::from_millis(100), 50);

/// A leader that ends asks its nodes to reconnect within this time: about as long as the next one needs to begin.
const DRAIN: Drain = Drain { min_ms: 100, max_ms: 3_000 };

/// What a stream needs.
pub(super) struct Desired<V> {
    pub(super) node: NodeName,
    pub(super) engine: Handle,
    pub(super) registrar: Arc<Registrar<V>>,
    pub(super) operators: watch::Receiver<Vec<String>>,
    pub(super) sessions: Sessions,
    pub(super) stop: CancellationToken,
}

type Sender = mpsc::Sender<Result<OperatorMessage, Status>>;

impl<V: Vouch> Desired<V> {
    /// Begins the session; it ends with the stream.
    pub(super) fn open(
        self,
        messages: Streaming<NodeMessage>,
    ) -> impl Stream<Item = Result<OperatorMessage, Status>> + Send + use<V> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let span = info_span!("session", node = self.node.name);
        let run = async move {
            if let Err(status) = self.run(messages, &sender).await {
                info!(code = ?status.code(), reason = status.message(), "session ended");
                // The node may be gone.
                sender.send(Err(status)).await.ok();
            }
        };
        tokio::spawn(run.instrument(span));
        ReceiverStream::new(receiver)
    }

    async fn run(&self, mut messages: Streaming<NodeMessage>, sender: &Sender) -> Result<(), Status> {
        let hello = first(&mut messages).await?;
        let mut session = tokio::select! {
            session = self.begin(&hello) => session?,
            () = sender.closed() => return Ok(()),
            () = self.stop.cancelled() => return self.drain(sender).await,
        };
        let place = self.sessions.enter(&Arc::from(self.node.name.as_str()), session.rung());
        info!(rung = ?session.rung(), version = hello.version, "session");
        let mut welcome = session.welcome();
        let mut operators = self.operators.clone();
        welcome.operators.clone_from(&operators.borrow_and_update());
        self.send(sender, ToNode::Welcome(welcome)).await?;
        loop {
            tokio::select! {
                news = session.next() => match news.map_err(ended)? {
                    News::Delta(delta) => {
                        self.count(&delta);
                        self.send(sender, ToNode::Delta(delta)).await?;
                    }
                    News::Told(told) => self.send(sender, ToNode::Told(told)).await?,
                },
                message = messages.message() => match message?.and_then(|message| message.message) {
                    Some(FromNode::Ack(ack)) => session.ack(ack),
                    Some(FromNode::RenewCsrDer(csr)) => {
                        let certificate = self.registrar.renew(&self.node, &csr).await?;
                        self.send(sender, ToNode::Certificate(certificate)).await?;
                    }
                    Some(FromNode::Hello(_)) => return Err(Status::invalid_argument("Hello is said once")),
                    None => return Ok(()),
                },
                Ok(()) = operators.changed() => {
                    let addresses = operators.borrow_and_update().clone();
                    self.send(sender, ToNode::Operators(Operators { addresses })).await?;
                }
                () = place.replaced.cancelled() => return Err(Status::aborted("the node has a newer session")),
                () = self.stop.cancelled() => return self.drain(sender).await,
            }
        }
    }

    /// Waits until this replica knows everything, and the node.
    async fn begin(&self, hello: &Hello) -> Result<Session, Status> {
        let node: Arc<str> = Arc::from(self.node.name.as_str());
        self.engine.complete().await.map_err(|error| Status::unavailable(error.to_string()))?;
        for _ in 0..UNKNOWN_NODE.1 {
            match self.engine.open(&node, hello) {
                Err(Refused::UnknownNode(_)) => tokio::time::sleep(UNKNOWN_NODE.0).await,
                opened => return opened.map_err(refused),
            }
        }
        Err(refused(Refused::UnknownNode(node)))
    }

    async fn send(&self, sender: &Sender, message: ToNode) -> Result<(), Status> {
        let message = OperatorMessage { message: Some(message) };
        sender.send(Ok(message)).await.map_err(|_| Status::cancelled("the node has hung up"))
    }

    async fn drain(&self, sender: &Sender) -> Result<(), Status> {
        self.send(sender, ToNode::Drain(DRAIN)).await
    }

    fn count(&self, delta: &Delta) {
        let bytes = delta.upserts.iter().map(|row| row.payload.len()).sum();
        self.sessions.metrics().sent(delta.upserts.len() + delta.removals.len(), bytes);
    }
}

async fn first(messages: &mut Streaming<NodeMessage>) -> Result<Hello, Status> {
    let message = tokio::time::timeout(HELLO, messages.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("no Hello"))??;
    match message.and_then(|message| message.message) {
        Some(FromNode::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message is Hello")),
    }
}

fn refused(refused: Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::OtherNode(_) => Status::permission_denied(text),
        Refused::UnknownNode(_) => Status::unavailable(text),
        Refused::Protocol { .. } => Status::failed_precondition(text),
    }
}

fn ended(ended: SessionEnded) -> Status {
    match ended {
        SessionEnded::Refused(reason) => refused(reason),
        SessionEnded::Engine(error) => Status::unavailable(error.to_string()),
    }
}
