//! What others hold of the [`Task`](super::Task): a [`State`], which sends it commands and waits for what it answers.

use std::net::IpAddr;

use axoneme_proto::nodesync::{Cursor, HeldScope, InputVersion, ToldPod};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::barrier;
use super::engine::Engine;
use super::status::Status;
use crate::desired::Change;
use crate::desired::pods::{EndpointSpec, PodError, PodRef, Pods, ReserveSpec, Told};

/// What a session tells an operator of.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// What was committed.
    pub cursor: Option<Cursor>,
    /// Scopes and their hashes.
    pub scopes: Vec<HeldScope>,
    /// What it was made of.
    pub inputs: Vec<InputVersion>,
}

/// What the task is asked and told.
#[derive(Debug)]
pub(super) enum Command {
    Commit(Box<Change>, oneshot::Sender<Cursor>),
    Held(oneshot::Sender<Held>),
    Nodes(oneshot::Sender<Vec<IpAddr>>),
    Endpoint(Waiter),
    Reserve(PodRef, oneshot::Sender<Result<ReserveSpec, PodError>>),
    AwaitTold(barrier::Waiter),
    Told(Vec<ToldPod>),
    Ready(oneshot::Sender<Result<(), PodError>>),
    Attached(String, u32),
    Detached(String, Vec<IpAddr>),
    Connected(bool),
    Devices,
    Operators(Vec<String>),
    KnownOperators(oneshot::Sender<Vec<String>>),
    Look(Look),
    Stop(oneshot::Sender<()>),
}

/// Somebody wants to see something of the engine.
pub(super) struct Look(pub(super) Box<dyn FnOnce(&Engine) + Send>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

/// An ADD that waits for what its pod is to be.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) pod: PodRef,
    pub(super) asked: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<EndpointSpec, PodError>>,
}

/// A handle to the [`Task`](super::Task).
#[derive(Clone, Debug)]
pub struct State {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
}

/// What the task is told, before there is a task.
#[derive(Debug)]
pub struct Inbox {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) status: watch::Sender<Status>,
}

/// A handle, and what the task needs to listen to it. Made first: what the task depends on depends on the handle.
#[must_use]
pub fn channel() -> (State, Inbox) {
    let (sender, commands) = mpsc::unbounded_channel();
    let (status, receiver) = watch::channel(Status::default());
    (State { commands: sender, status: receiver }, Inbox { commands, status })
}

/// The task has ended.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the daemon is stopping")]
pub struct Stopped;

impl State {
    /// Commits a delta; returns the new cursor before the kernel follows.
    ///
    /// # Errors
    /// When the daemon stops.
    pub async fn commit(&self, change: Change) -> Result<Cursor, Stopped> {
        self.ask(|reply| Command::Commit(Box::new(change), reply)).await
    }

    /// What is held.
    ///
    /// # Errors
    /// When the daemon stops.
    pub async fn held(&self) -> Result<Held, Stopped> {
        self.ask(Command::Held).await
    }

    /// The first address of every node.
    ///
    /// # Errors
    /// When the daemon stops.
    pub async fn nodes(&self) -> Result<Vec<IpAddr>, Stopped> {
        self.ask(Command::Nodes).await
    }

    /// Addresses of operators, the one that was connected last first.
    ///
    /// # Errors
    /// When the daemon stops.
    pub async fn known_operators(&self) -> Result<Vec<String>, Stopped> {
        self.ask(Command::KnownOperators).await
    }

    /// What `look` sees of desired state and kernel at one moment; nothing else is done meanwhile.
    ///
    /// # Errors
    /// When the daemon stops.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.ask(|reply| {
            Command::Look(Look(Box::new(move |engine| {
                // Who has asked may have gone.
                let _ = reply.send(look(engine));
            })))
        })
        .await
    }

    /// How far the kernel follows, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// A pod was attached with this identity.
    pub fn attached(&self, pod_uid: String, identity: u32) {
        self.tell(Command::Attached(pod_uid, identity));
    }

    /// A pod's last attachment is gone.
    pub fn detached(&self, pod_uid: String, addresses: Vec<IpAddr>) {
        self.tell(Command::Detached(pod_uid, addresses));
    }

    /// Something about the node's devices, addresses or routes may have changed.
    pub fn devices_changed(&self) {
        self.tell(Command::Devices);
    }

    /// Whether an operator is connected.
    pub fn connected(&self, connected: bool) {
        self.tell(Command::Connected(connected));
    }

    /// Who has to know of these pods does.
    pub fn peers_told(&self, pods: Vec<ToldPod>) {
        self.tell(Command::Told(pods));
    }

    /// Addresses of operators, to be kept for a restart.
    pub fn operators(&self, addresses: Vec<String>) {
        self.tell(Command::Operators(addresses));
    }

    /// Ends the task when the checkpoint is on disk. The kernel stays as it is.
    pub async fn stop(&self) {
        let _ = self.ask(Command::Stop).await;
    }

    fn tell(&self, command: Command) {
        // A task that has ended needs to know nothing.
        let _ = self.commands.send(command);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply));
        answer.await.map_err(|_| Stopped)
    }
}

impl Pods for State {
    fn endpoint(&self, pod: PodRef, deadline: Instant) -> BoxFuture<'static, Result<EndpointSpec, PodError>> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Endpoint(Waiter { pod, asked: Instant::now(), deadline, reply }));
        async move { answer.await.unwrap_or(Err(PodError::Stopping)) }.boxed()
    }

    fn reserve(&self, pod: PodRef) -> BoxFuture<'static, Result<ReserveSpec, PodError>> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Reserve(pod, reply));
        async move { answer.await.unwrap_or(Err(PodError::Stopping)) }.boxed()
    }

    fn told(&self, pod_uid: String, revision: u64, deadline: Instant) -> BoxFuture<'static, Told> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::AwaitTold(barrier::Waiter { pod_uid, revision, deadline, reply }));
        async move { answer.await.unwrap_or(Told::Disconnected) }.boxed()
    }

    fn network(&self) -> BoxFuture<'static, Result<(), PodError>> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Ready(reply));
        async move { answer.await.unwrap_or(Err(PodError::Stopping)) }.boxed()
    }
}
