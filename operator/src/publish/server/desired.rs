//! The stream of desired state: carries a session's chunks to the node, and its acks back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{Delta, Drain, Hello, NodeMessage, OperatorMessage, Operators};
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tracing::{Instrument, info, info_span, warn};

use super::sessions::{Place, Sessions};
use crate::engine::{CaughtUp, Handle, News, Session, SessionEnded};
use crate::publish::join::{Registrar, Vouch};
use crate::publish::session::{Refused, Rung};
use crate::publish::tls::NodeName;

/// A node that has dialled says Hello within this time.
const HELLO: Duration = Duration::from_secs(10);

/// After a restart, a Node may be known to the API server and not yet to the index.
const UNKNOWN_NODE: (Duration, u32) = (Duration::from_millis(100), 50);

/// A leader that ends asks its nodes to reconnect within this time: about as long as the next one needs to begin.
const DRAIN: Drain = Drain { min_ms: 100, max_ms: 3_000 };

/// Nodes that are sent whole scopes at the same time: what is sent to them stays in memory until they have taken it.
pub(super) const SNAPSHOTS: usize = 16;

/// One that takes longer does not keep others waiting.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// Messages to a node that its connection has not taken yet; behind that is the session's own window.
const QUEUE: usize = 1;

/// How long a node has to take the last message.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a stream needs.
pub(super) struct Desired<V> {
    pub(super) node: NodeName,
    pub(super) engine: Handle,
    pub(super) registrar: Arc<Registrar<V>>,
    pub(super) operators: watch::Receiver<Vec<String>>,
    pub(super) sessions: Sessions,
    pub(super) snapshots: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

/// A session that can be carried.
struct Begun {
    session: Session,
    place: Place,
    operators: watch::Receiver<Vec<String>>,
    /// See [`Desired::turn`].
    turn: Option<DropGuard>,
}

/// Boxed, because a channel has room for 32 from the start.
type Sender = mpsc::Sender<Result<Box<OperatorMessage>, Status>>;

impl<V: Vouch> Desired<V> {
    /// Begins the session; it ends with the stream.
    pub(super) fn open<S>(
        self,
        mut messages: S,
    ) -> impl Stream<Item = Result<OperatorMessage, Status>> + Send + use<V, S>
    where
        S: Stream<Item = Result<NodeMessage, Status>> + Send + Unpin + 'static,
    {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let span = info_span!("session", node = self.node.name);
        let run = async move {
            if let Err(status) = self.run(&mut messages, &sender).await {
                info!(code = ?status.code(), reason = status.message(), "session ended");
                // The node may be gone.
                sender.send(Err(status)).await.ok();
            }
        };
        tokio::spawn(run.instrument(span));
        ReceiverStream::new(receiver).map(|message| message.map(|message| *message))
    }

    /// What only the beginning needs is boxed, and gone while the session lasts.
    async fn run(
        &self,
        messages: &mut (impl Stream<Item = Result<NodeMessage, Status>> + Send + Unpin),
        sender: &Sender,
    ) -> Result<(), Status> {
        match self.begin(messages, sender).boxed().await? {
            Some(mut begun) => self.carry(&mut begun, messages, sender).await,
            None => Ok(()),
        }
    }

    /// From Hello to Welcome; `None` where the stream is to end without an error.
    async fn begin(
        &self,
        messages: &mut (impl Stream<Item = Result<NodeMessage, Status>> + Unpin),
        sender: &Sender,
    ) -> Result<Option<Box<Begun>>, Status> {
        let hello = first(messages).await?;
        let session = tokio::select! {
            biased;
            () = sender.closed() => return Ok(None),
            () = self.stop.cancelled() => return self.drain(sender).await.map(|()| None),
            session = self.session(&hello) => session?,
        };
        let place = self.sessions.enter(&Arc::from(self.node.name.as_str()), session.rung());
        info!(rung = ?session.rung(), version = hello.version, "session");
        let mut welcome = session.welcome();
        let mut operators = self.operators.clone();
        welcome.operators.clone_from(&operators.borrow_and_update());
        self.send(sender, ToNode::Welcome(welcome)).await?;
        let turn = tokio::select! {
            biased;
            () = sender.closed() => return Ok(None),
            () = self.stop.cancelled() => return self.drain(sender).await.map(|()| None),
            turn = self.turn(session.rung()) => turn,
        };
        Ok(Some(Box::new(Begun { session, place, operators, turn })))
    }

    /// Tells what there is to tell, and hears the node, until one of both ends it.
    async fn carry(
        &self,
        begun: &mut Begun,
        messages: &mut (impl Stream<Item = Result<NodeMessage, Status>> + Unpin),
        sender: &Sender,
    ) -> Result<(), Status> {
        let Begun { session, place, operators, turn } = begun;
        let mut answers = VecDeque::new();
        loop {
            // What ends the session first, then what the node says: it is heard also while it takes nothing.
            tokio::select! {
                biased;
                () = place.replaced.cancelled() => return Err(Status::aborted("the node has a newer session")),
                () = self.stop.cancelled() => return self.drain(sender).boxed().await,
                message = messages.next(), if answers.len() < QUEUE => {
                    match message.transpose()?.and_then(|message| message.message) {
                        Some(FromNode::Ack(ack)) => session.ack(ack),
                        Some(FromNode::RenewCsrDer(csr)) => {
                            let renewed = self.registrar.renew(&self.node, &csr).boxed().await?;
                            answers.push_back(ToNode::Certificate(renewed));
                        }
                        Some(FromNode::Hello(_)) => return Err(Status::invalid_argument("Hello is said once")),
                        None => return Ok(()),
                    }
                }
                Ok(()) = operators.changed(), if answers.len() < QUEUE => {
                    let addresses = operators.borrow_and_update().clone();
                    answers.push_back(ToNode::Operators(Operators { addresses }));
                }
                told = self.tell(sender, &mut answers, session) => {
                    told?;
                    if !session.is_sending() {
                        drop(turn.take());
                    }
                }
            }
        }
    }

    /// Says the next thing, when there is one and the node takes it. Cancel safe.
    async fn tell(&self, sender: &Sender, answers: &mut VecDeque<ToNode>, session: &mut Session) -> Result<(), Status> {
        let place = sender.reserve().await.map_err(|_| Status::cancelled("the node has hung up"))?;
        let message = match answers.pop_front() {
            Some(answer) => answer,
            None => match session.next().await.map_err(ended)? {
                News::Delta(delta) => {
                    self.count(&delta);
                    ToNode::Delta(delta)
                }
                News::Told(told) => ToNode::Told(told),
            },
        };
        place.send(Ok(Box::new(OperatorMessage { message: Some(message) })));
        Ok(())
    }

    /// Waits until this replica knows everything, the node, and what that knows.
    async fn session(&self, hello: &Hello) -> Result<Session, Status> {
        let node: Arc<str> = Arc::from(self.node.name.as_str());
        self.engine.complete().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let caught_up = self.engine.catch_up(hello).await;
        self.sessions.metrics().caught_up(&caught_up);
        match caught_up {
            CaughtUp::AtOnce => {}
            CaughtUp::Waited => info!("the node knew more than this operator, which has caught up"),
            CaughtUp::Behind(kinds) => {
                warn!(?kinds, "the node knows more than this operator, and is served all the same")
            }
        }
        for _ in 0..UNKNOWN_NODE.1 {
            match self.engine.open(&node, hello) {
                Err(Refused::UnknownNode(_)) => tokio::time::sleep(UNKNOWN_NODE.0).await,
                opened => return opened.map_err(refused),
            }
        }
        Err(refused(Refused::UnknownNode(node)))
    }

    /// Waits for its turn among those that are sent whole scopes, but not long. It lasts until the guard is dropped, but not
    /// longer.
    async fn turn(&self, rung: Rung) -> Option<DropGuard> {
        if rung == Rung::Deltas {
            return None;
        }
        let place = tokio::time::timeout(SNAPSHOT, Arc::clone(&self.snapshots).acquire_owned()).await;
        let permit: OwnedSemaphorePermit = place.ok()?.ok()?;
        let done = CancellationToken::new();
        let ended = done.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(SNAPSHOT, ended.cancelled()).await;
            drop(permit);
        });
        Some(done.drop_guard())
    }

    async fn send(&self, sender: &Sender, message: ToNode) -> Result<(), Status> {
        let message = Box::new(OperatorMessage { message: Some(message) });
        sender.send(Ok(message)).await.map_err(|_| Status::cancelled("the node has hung up"))
    }

    async fn drain(&self, sender: &Sender) -> Result<(), Status> {
        // One that takes nothing finds out when the connection ends.
        let told = tokio::time::timeout(FAREWELL, self.send(sender, ToNode::Drain(DRAIN))).await;
        told.unwrap_or(Ok(()))
    }

    fn count(&self, delta: &Delta) {
        let bytes = delta.upserts.iter().map(Message::encoded_len).sum();
        self.sessions.metrics().sent(delta.upserts.len() + delta.removals.len(), bytes);
    }
}

async fn first(messages: &mut (impl Stream<Item = Result<NodeMessage, Status>> + Unpin)) -> Result<Hello, Status> {
    let message = tokio::time::timeout(HELLO, messages.next()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("no Hello"))?.transpose()?;
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
        Refused::Behind(_) => Status::out_of_range(text),
        Refused::Protocol { .. } => Status::failed_precondition(text),
    }
}

fn ended(ended: SessionEnded) -> Status {
    match ended {
        SessionEnded::Refused(reason) => refused(reason),
        SessionEnded::Engine(error) => Status::unavailable(error.to_string()),
    }
}
