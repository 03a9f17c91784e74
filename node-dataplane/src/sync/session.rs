//! One session of `Desired`: from Hello to whatever ends it. Nothing that ends it changes anything on the node.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use axoneme_proto::PROTOCOL;
use axoneme_proto::nodesync::node_sync_client::NodeSyncClient;
use axoneme_proto::nodesync::{
    Ack, Delta, Hello, NodeMessage, OperatorMessage, RowFailure, Welcome, node_message, operator_message,
};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{self, Permit};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status as RpcStatus, Streaming};

use super::backoff;
use super::credentials::{Credentials, CredentialsError};
use super::staging::{DeltaError, Staging};
use crate::desired::{FEATURES, RowId};
use crate::reconcile::state::{Held, State, Stopped};
use crate::reconcile::status::{Status, changed};

/// How long the operator may think about a Hello. It may hold a session while its caches catch up, for 10 s at most.
const WELCOME: Duration = Duration::from_secs(12);
/// Acks are not sent more often, but for barriers.
const ACK_INTERVAL: Duration = Duration::from_millis(100);
/// Failures in one ack.
const ACK_FAILURES: usize = 64;
/// How long the answer to a renewal may take before it is asked for again.
const RENEWAL_ANSWER: Duration = Duration::from_secs(60);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The operator ended it, or the connection broke.
    #[error("the stream ended: {} ({:?})", .0.message(), .0.code())]
    Rpc(#[from] Box<RpcStatus>),
    /// The operator closed the stream without a word.
    #[error("the operator closed the stream")]
    Closed,
    /// The operator did not answer a Hello.
    #[error("the operator did not answer within {} s", WELCOME.as_secs())]
    Silent,
    /// What came does not fit the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The operator chose a version this node does not speak.
    #[error("the operator speaks protocol {0}, which this version does not know")]
    Version(u32),
    /// A delta does not continue what is held.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// A new certificate could not be asked for or kept.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The operator goes away.
    #[error("the operator goes away; reconnecting in {0:?}")]
    Drain(Duration),
    /// The daemon stops.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<RpcStatus> for SessionError {
    fn from(status: RpcStatus) -> Self {
        Self::Rpc(Box::new(status))
    }
}

/// Who says Hello.
#[derive(Clone, Debug)]
pub struct Me {
    /// Name of the node.
    pub node: String,
    /// Version of the daemon.
    pub version: String,
    /// Of the kernel.
    pub boot_id: String,
}

/// What the session learnt that others need.
pub trait Observer {
    /// The operator accepted the session.
    fn welcomed(&mut self, welcome: &Welcome);
    /// These are all operators from now on.
    fn operators(&mut self, addresses: Vec<String>);
    /// A delta was committed.
    fn committed(&mut self);
}

/// Carries a session's messages.
pub trait Transport: Send {
    /// What the operator says.
    type Inbound: Stream<Item = Result<OperatorMessage, RpcStatus>> + Send + Unpin;

    /// Opens the stream of desired state: what the node says on it goes out, what the operator says comes back.
    fn desired(
        &mut self,
        outbound: ReceiverStream<NodeMessage>,
    ) -> impl Future<Output = Result<Self::Inbound, RpcStatus>> + Send;
}

impl Transport for NodeSyncClient<Channel> {
    type Inbound = Streaming<OperatorMessage>;

    async fn desired(&mut self, outbound: ReceiverStream<NodeMessage>) -> Result<Self::Inbound, RpcStatus> {
        Ok(Self::desired(self, outbound).await?.into_inner())
    }
}

/// Runs a session until it ends, for whatever reason.
pub async fn run(
    mut client: impl Transport,
    me: &Me,
    state: &State,
    credentials: &mut Credentials,
    observer: &mut impl Observer,
) -> SessionError {
    let (sender, receiver) = mpsc::channel(4);
    let session = async {
        let held = state.held().await?;
        let sent = sender.send(message(node_message::Message::Hello(hello(me, held.clone())))).await;
        sent.map_err(|_| SessionError::Closed)?;
        let answer = timeout(WELCOME, async {
            let mut inbound = client.desired(ReceiverStream::new(receiver)).await?;
            let welcome = welcome(inbound.next().await.transpose()?)?;
            Ok::<_, SessionError>((inbound, welcome))
        });
        let (inbound, welcome) = answer.await.map_err(|_| SessionError::Silent)??;
        observer.welcomed(&welcome);
        let known = held.cursor.filter(|cursor| welcome.resumed && cursor.epoch == welcome.epoch);
        let session = Session {
            epoch: welcome.epoch,
            revision: known.map_or(0, |cursor| cursor.revision),
            staging: Staging::new(welcome.protocol),
            acks: Acks::default(),
        };
        session.receive(sender, inbound, state, credentials, observer).await
    };
    match session.await {
        Ok(never) => match never {},
        Err(err) => err,
    }
}

fn hello(me: &Me, held: Held) -> Hello {
    Hello {
        node: me.node.clone(),
        protocol_min: *PROTOCOL.start(),
        protocol_max: *PROTOCOL.end(),
        features: FEATURES,
        cursor: held.cursor,
        scopes: held.scopes,
        inputs: held.inputs,
        version: me.version.clone(),
        boot_id: me.boot_id.clone(),
    }
}

fn welcome(first: Option<OperatorMessage>) -> Result<Welcome, SessionError> {
    match first.and_then(|first| first.message) {
        Some(operator_message::Message::Welcome(welcome)) if PROTOCOL.contains(&welcome.protocol) => Ok(welcome),
        Some(operator_message::Message::Welcome(welcome)) => Err(SessionError::Version(welcome.protocol)),
        Some(operator_message::Message::Drain(drain)) => Err(drained(drain)),
        Some(_) => Err(SessionError::Protocol("the first message is no Welcome")),
        None => Err(SessionError::Closed),
    }
}

fn drained(drain: axoneme_proto::nodesync::Drain) -> SessionError {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    SessionError::Drain(backoff::between(ms(drain.min_ms), ms(drain.max_ms.max(drain.min_ms))))
}

fn message(message: node_message::Message) -> NodeMessage {
    NodeMessage { message: Some(message) }
}

/// A session that was welcomed.
struct Session {
    epoch: Vec<u8>,
    /// What the next delta must continue. 0 where the cursor was of no use: the first delta says everything that differs.
    revision: u64,
    staging: Staging,
    acks: Acks,
}

impl Session {
    async fn receive(
        mut self,
        out: mpsc::Sender<NodeMessage>,
        mut inbound: impl Stream<Item = Result<OperatorMessage, RpcStatus>> + Unpin,
        state: &State,
        credentials: &mut Credentials,
        observer: &mut impl Observer,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut status = state.status();
        let mut renew_at = Instant::now() + credentials.renew_in();
        loop {
            let ack_due = self.acks.due(&status.borrow_and_update(), &self.epoch);
            // Acks first: they are seldom, and the operator waits for them. One that takes none is heard all the same.
            tokio::select! {
                biased;
                place = room(&out, ack_due) => {
                    let ack = self.acks.take(&status.borrow());
                    place?.send(message(node_message::Message::Ack(ack)));
                }
                place = room(&out, Some(renew_at)) => {
                    place?.send(message(node_message::Message::RenewCsrDer(credentials.request()?)));
                    renew_at = Instant::now() + RENEWAL_ANSWER;
                }
                changed = status.changed() => changed.map_err(|_| Stopped)?,
                received = inbound.next() => {
                    let received = received.transpose()?.ok_or(SessionError::Closed)?;
                    match received.message {
                        Some(operator_message::Message::Delta(delta)) => self.delta(delta, state, observer).await?,
                        Some(operator_message::Message::Certificate(certificate)) => {
                            credentials.store(certificate)?;
                            renew_at = Instant::now() + credentials.renew_in().max(RENEWAL_ANSWER);
                            tracing::info!("the node's certificate was renewed");
                        }
                        Some(operator_message::Message::Drain(drain)) => return Err(drained(drain)),
                        Some(operator_message::Message::Welcome(_)) => {
                            return Err(SessionError::Protocol("a second Welcome"));
                        }
                        Some(operator_message::Message::Told(told)) => state.peers_told(told.pods),
                        Some(operator_message::Message::Operators(all)) => observer.operators(all.addresses),
                        // Something that a newer operator says and that can be left out.
                        None => {}
                    }
                }
            }
        }
    }

    async fn delta(&mut self, delta: Delta, state: &State, observer: &mut impl Observer) -> Result<(), SessionError> {
        let Some(staged) = self.staging.add(&self.epoch, self.revision, delta)? else { return Ok(()) };
        let to = staged.change.to_revision;
        let cursor = state.commit(staged.change).await?;
        self.revision = cursor.revision;
        if staged.ack_at_once {
            self.acks.urgent = Some(to);
        }
        observer.committed();
        Ok(())
    }
}

/// Room for a message, when it is due.
async fn room(out: &mpsc::Sender<NodeMessage>, due: Option<Instant>) -> Result<Permit<'_, NodeMessage>, SessionError> {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
    out.reserve().await.map_err(|_| SessionError::Closed)
}

/// What this session's operator was told.
#[derive(Debug, Default)]
struct Acks {
    sent: Option<(u64, u64, u64, u64)>,
    sent_at: Option<Instant>,
    told: BTreeMap<RowId, RowFailure>,
    /// A barrier waits until this revision was tried.
    urgent: Option<u64>,
}

impl Acks {
    /// When the next ack is to be sent, if there is anything to say.
    fn due(&self, status: &Status, epoch: &[u8]) -> Option<Instant> {
        if status.epoch != epoch {
            return None;
        }
        let now = Instant::now();
        if self.urgent.is_some_and(|urgent| status.attempted >= urgent) {
            return Some(now);
        }
        let news = self.sent != Some(numbers(status)) || self.told != status.failures;
        news.then(|| self.sent_at.map_or(now, |at| at + ACK_INTERVAL))
    }

    fn take(&mut self, status: &Status) -> Ack {
        if self.urgent.is_some_and(|urgent| status.attempted >= urgent) {
            self.urgent = None;
        }
        self.sent = Some(numbers(status));
        self.sent_at = Some(Instant::now());
        Ack {
            received: status.received,
            attempted: status.attempted,
            retry_low_watermark: status.retry_low_watermark,
            failures: changed(&mut self.told, &status.failures, ACK_FAILURES),
            failing: status.failing,
        }
    }
}

fn numbers(status: &Status) -> (u64, u64, u64, u64) {
    (status.received, status.attempted, status.retry_low_watermark, status.failing)
}
