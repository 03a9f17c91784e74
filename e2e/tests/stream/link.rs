//! The transport: carries messages between a node and an operator, and breaks in every way that a connection can.
//!
//! A stream promises to lose, swap and repeat nothing. Where the simulation breaks that promise, the stream itself breaks soon
//! after: until then whatever arrives must do no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axoneme_node::sync::session::Transport;
use axoneme_operator::publish::tls::NodeName;
use axoneme_proto::nodesync::node_message::Message as FromNode;
use axoneme_proto::nodesync::operator_message::Message as ToNode;
use axoneme_proto::nodesync::{NodeMessage, OperatorMessage};
use futures::{Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::replica::Replica;
use crate::rng::Rng;

/// A stream that has done what it must not is broken within this time.
const SOON: u64 = 1_500;
/// Messages on the way.
const CAPACITY: usize = 2;

/// What is common to all connections.
#[derive(Debug, Default)]
pub struct Weather {
    /// Nothing breaks any more.
    pub calm: AtomicBool,
    /// Connections that were broken.
    pub broken: AtomicU64,
    /// Sessions that began with differences, with what differs, and with everything; and those sent some buckets of a scope.
    pub deltas: AtomicU64,
    pub scopes: AtomicU64,
    pub snapshots: AtomicU64,
    pub partial: AtomicU64,
}

impl Weather {
    /// What a session begins with.
    fn count(&self, message: &OperatorMessage, held: bool) {
        let counter = match &message.message {
            Some(ToNode::Welcome(welcome)) if welcome.resumed => &self.deltas,
            Some(ToNode::Welcome(_)) if held => &self.scopes,
            Some(ToNode::Welcome(_)) => &self.snapshots,
            Some(ToNode::Delta(delta)) if !delta.buckets.is_empty() => &self.partial,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }
}

/// How one direction of a connection behaves, of a thousand messages.
#[derive(Clone, Copy, Debug)]
struct Faults {
    delay: u64,
    lose: u64,
    swap: u64,
    repeat: u64,
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let delay = [0, 5, 40, 300][rng.below(4) as usize];
        let mut some = |chance| if rng.permille(250) { rng.below(chance) } else { 0 };
        Self { delay, lose: some(150), swap: some(150), repeat: some(150) }
    }
}

/// One connection: broken for the node at once, for the operator when it finds out.
#[derive(Clone, Debug, Default)]
struct Connection {
    node: CancellationToken,
    operator: CancellationToken,
}

impl Connection {
    fn break_after(&self, weather: &Arc<Weather>, wait: Duration, until_noticed: Duration) {
        let (connection, weather) = (self.clone(), Arc::clone(weather));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = sleep(wait) => {}
                // It ended by itself.
                () = connection.node.cancelled() => return,
            }
            weather.broken.fetch_add(1, Ordering::Relaxed);
            connection.node.cancel();
            sleep(until_noticed).await;
            connection.operator.cancel();
        });
    }
}

pub struct Link {
    pub node: &'static str,
    pub replica: Arc<Replica>,
    pub weather: Arc<Weather>,
    pub rng: Rng,
}

impl Transport for Link {
    type Inbound = std::pin::Pin<Box<dyn Stream<Item = Result<OperatorMessage, Status>> + Send>>;

    async fn desired(&mut self, outbound: ReceiverStream<NodeMessage>) -> Result<Self::Inbound, Status> {
        sleep(self.rng.millis(0, 20)).await;
        let replica = Arc::clone(&self.replica);
        if replica.alive.is_cancelled() || replica.stop.is_cancelled() || !replica.handle.is_complete() {
            return Err(Status::unavailable("nobody answers"));
        }
        let connection = Connection::default();
        if !self.weather.is_calm() && self.rng.permille(700) {
            let late = if self.rng.permille(300) { self.rng.millis(0, 8_000) } else { Duration::ZERO };
            connection.break_after(&self.weather, self.rng.millis(1, 6_000), late);
        }
        let crashed = (replica.alive.clone(), connection.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = crashed.0.cancelled() => {}
                () = crashed.1.operator.cancelled() => {}
            }
            crashed.1.node.cancel();
            crashed.1.operator.cancel();
        });
        let mut pipe = || Pipe {
            faults: Faults::draw(&mut self.rng),
            weather: Arc::clone(&self.weather),
            connection: connection.clone(),
            rng: self.rng.part(),
        };
        let (there, back) = (pipe(), pipe());
        let holds = Arc::new(AtomicBool::default());
        let (told, weather) = (Arc::clone(&holds), Arc::clone(&self.weather));
        let arriving = there.carry(outbound.map(Ok), connection.operator.clone(), move |message: &NodeMessage| {
            if let Some(FromNode::Hello(hello)) = &message.message {
                told.store(!hello.scopes.is_empty(), Ordering::Relaxed);
            }
            NodeMessage::decode(&*message.encode_to_vec()).unwrap()
        });
        let name = NodeName { name: self.node.into(), uid: format!("uid-{}", self.node) };
        let answers = replica.service.session(name, arriving);
        let arriving = back.carry(Box::pin(answers), connection.node, move |message: &OperatorMessage| {
            weather.count(message, holds.load(Ordering::Relaxed));
            OperatorMessage::decode(&*message.encode_to_vec()).unwrap()
        });
        Ok(Box::pin(arriving))
    }
}

/// One direction.
struct Pipe {
    faults: Faults,
    weather: Arc<Weather>,
    connection: Connection,
    rng: Rng,
}

impl Pipe {
    fn carry<T: Send + 'static>(
        mut self,
        mut from: impl Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
        broken: CancellationToken,
        copy: impl Fn(&T) -> T + Send + 'static,
    ) -> impl Stream<Item = Result<T, Status>> + Send + Unpin + 'static {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let ended = broken.clone();
        tokio::spawn(async move {
            let mut kept: Option<T> = None;
            loop {
                let next = tokio::select! {
                    biased;
                    () = broken.cancelled() => return,
                    next = from.next() => next,
                };
                tokio::select! {
                    biased;
                    () = sleep(self.rng.millis(0, self.faults.delay)) => {}
                    () = broken.cancelled() => return,
                }
                let message = match next {
                    Some(Ok(message)) => message,
                    end => {
                        // In order, with a last word perhaps: for both ends.
                        let last = kept.take().map(Ok).into_iter().chain(end);
                        for word in last {
                            let _ = sender.send(word).await;
                        }
                        return;
                    }
                };
                // What arrives was on a wire.
                let message = copy(&message);
                let Faults { lose, swap, repeat, .. } =
                    if self.weather.is_calm() { Faults { delay: 0, lose: 0, swap: 0, repeat: 0 } } else { self.faults };
                if self.rng.permille(lose) {
                    self.wrong();
                    continue;
                }
                if kept.is_none() && self.rng.permille(swap) {
                    self.wrong();
                    kept = Some(message);
                    continue;
                }
                let again = self.rng.permille(repeat).then(|| copy(&message));
                if again.is_some() {
                    self.wrong();
                }
                for message in std::iter::once(message).chain(kept.take()).chain(again) {
                    tokio::select! {
                        biased;
                        sent = sender.send(Ok(message)) => if sent.is_err() { return },
                        () = broken.cancelled() => return,
                    }
                }
            }
        });
        let mut receiver = ReceiverStream::new(receiver);
        let (mut cut, mut broken) = (false, Box::pin(ended.cancelled_owned()));
        Box::pin(futures::stream::poll_fn(move |cx| {
            if cut {
                return Poll::Ready(None);
            }
            // What had arrived before the cut may be read or not: here it is not.
            if broken.as_mut().poll(cx).is_ready() {
                cut = true;
                return Poll::Ready(Some(Err(Status::unavailable("the connection broke"))));
            }
            receiver.poll_next_unpin(cx)
        }))
    }

    fn wrong(&mut self) {
        let wait = self.rng.millis(0, SOON);
        self.connection.break_after(&self.weather, wait, Duration::ZERO);
    }
}
