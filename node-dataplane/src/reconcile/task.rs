//! The task that owns desired state and reconcilers; everything else holds a [`State`](super::State) and sends to it.

use std::time::Duration;

use axoneme_proto::nodesync::Cursor;
use axoneme_proto::{Scope, Table};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::barrier::Barrier;
use super::engine::Engine;
use super::metrics::Metrics;
use super::state::{Command, Held, Inbox, Waiter};
use super::status::Status;
use crate::desired::RowId;
use crate::desired::checkpoint::{Checkpoint, CheckpointError, PolicyIndex};
use crate::desired::pods::PodError;
use crate::desired::rows::Endpoint;

/// Commits that come within this time are checkpointed together.
const CHECKPOINT_DELAY: Duration = Duration::from_secs(1);
/// How long after its loss an operator is expected back. One that goes in order is followed, and found, within a few seconds:
/// what it says of a pod is worth a wait within ADD's own, because the reserve's address and `init` have to be made up for.
const FAILOVER: Duration = Duration::from_secs(10);
/// The same for a daemon that starts: who is there is found at once.
const START: Duration = Duration::from_secs(3);
/// How long after a Welcome news of what was missed may take.
const NEWS: Duration = Duration::from_millis(200);
const CHECKPOINT_RETRY: Duration = Duration::from_secs(30);

/// The task, not running yet.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Task {
    engine: Engine,
    checkpoint: Option<Checkpoint>,
    operators: Vec<String>,
    commands: mpsc::UnboundedReceiver<Command>,
    status: watch::Sender<Status>,
    waiters: Vec<Waiter>,
    barrier: Barrier,
    /// Until when an operator is expected back; None: one is connected.
    expected: Option<Instant>,
    /// Until then the kernel is left as an earlier run had it: its checkpoint may be older than what it wrote.
    hold: Option<Instant>,
    checkpoint_due: Option<Instant>,
    writing: Option<tokio::task::JoinHandle<Result<(), CheckpointError>>>,
    metrics: Metrics,
}

impl Task {
    /// The task that `inbox` belongs to. `hold` gives an operator time to tell what is newer than the checkpoint.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        engine: Engine,
        checkpoint: Option<Checkpoint>,
        operators: Vec<String>,
        hold: Option<Instant>,
        metrics: Metrics,
    ) -> Self {
        let Inbox { commands, status } = inbox;
        Self {
            engine,
            checkpoint,
            operators,
            commands,
            status,
            waiters: Vec::new(),
            barrier: Barrier::default(),
            expected: Some(Instant::now() + START),
            hold,
            checkpoint_due: None,
            writing: None,
            metrics,
        }
    }

    /// Runs until it is told to stop, or nobody is left to tell it anything.
    pub async fn run(mut self) {
        loop {
            let due = self.next_due();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Stop(done)) => {
                        self.save_now().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle(command),
                    None => return,
                },
                result = finished(&mut self.writing) => self.saved(result),
                () = sleep_until(due) => {}
            }
            self.advance().await;
        }
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let round = self.hold.unwrap_or_else(|| self.engine.next_due(now));
        let waiters = self.waiters.iter();
        let waiter =
            waiters.map(|waiter| Some(self.deadline(waiter)).filter(|d| *d > now).unwrap_or(waiter.deadline)).min();
        let checkpoint = self.checkpoint_due.filter(|_| self.writing.is_none());
        waiter.into_iter().chain(self.barrier.next_due()).chain(checkpoint).fold(round, Instant::min)
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Commit(change, reply) => {
                let now = Instant::now();
                self.hold = None;
                let cursor = Cursor { epoch: change.epoch.clone(), revision: change.to_revision };
                if let Some(Err(err)) = self.checkpoint.as_ref().map(|checkpoint| checkpoint.follows(&cursor)) {
                    tracing::warn!(err = &err as &dyn std::error::Error, "a restart would wait for an operator");
                }
                self.metrics.committed(&change);
                self.barrier.committed(change.to_revision);
                let endpoints = change.removals.iter().filter(|id| id.table == Table::Endpoint as i32);
                endpoints.for_each(|id| self.barrier.forget(&id.key));
                let pods: Vec<_> = change.upserted(Table::Endpoint).map(str::to_owned).collect();
                let policies = self.engine.commit(*change);
                pods.iter().for_each(|uid| self.say(uid));
                self.metrics.policies_wanted(policies, now);
                self.checkpoint_due.get_or_insert(now + CHECKPOINT_DELAY);
                let _ = reply.send(self.engine.desired().cursor().cloned().unwrap_or_default());
            }
            Command::Held(reply) => {
                let desired = self.engine.desired();
                let (cursor, scopes) = (desired.cursor().cloned(), desired.store().held());
                let held = Held { cursor, scopes, inputs: desired.inputs() };
                let _ = reply.send(held);
            }
            Command::Nodes(reply) => {
                let nodes = self.engine.desired().index().nodes();
                let _ = reply.send(nodes.filter_map(|(_, node)| node.addresses.first().copied()).collect());
            }
            Command::Endpoint(waiter) => self.waiters.push(waiter),
            Command::Reserve(pod, reply) => {
                let _ = reply.send(self.engine.reserve(&pod));
            }
            Command::AwaitTold(waiter) => self.barrier.wait(waiter),
            Command::Told(pods) => self.barrier.told(pods),
            Command::Ready(reply) => {
                let _ = reply.send(self.engine.ready());
            }
            Command::Attached(pod_uid, identity) => self.engine.attached(&pod_uid, identity),
            Command::Detached(pod_uid, addresses) => self.engine.detached(&pod_uid, &addresses),
            Command::Devices => self.engine.devices_changed(),
            Command::Connected(true) => {
                self.expected = None;
                self.barrier.connected();
                // What is newer comes now, or there is nothing.
                self.hold = self.hold.map(|until| until.min(Instant::now() + NEWS));
            }
            Command::Connected(false) => {
                self.expected.get_or_insert_with(|| Instant::now() + FAILOVER);
            }
            Command::Operators(operators) => {
                if operators != self.operators {
                    self.operators = operators;
                    self.checkpoint_due.get_or_insert(Instant::now() + CHECKPOINT_DELAY);
                }
            }
            Command::KnownOperators(reply) => {
                let _ = reply.send(self.operators.clone());
            }
            Command::Look(look) => (look.0)(&self.engine),
            Command::Stop(_) => {}
        }
    }

    /// By what a person follows one pod: the operator names the same pod, identity and revision.
    fn say(&self, pod_uid: &str) {
        let desired = self.engine.desired();
        let row = RowId::new(Scope::Node(desired.node_name().to_owned()), Table::Endpoint, pod_uid);
        if let (Some(pod), Some(revision)) = (desired.endpoint(pod_uid), desired.row_revision(&row)) {
            let Endpoint { namespace, name: pod, identity, .. } = pod;
            tracing::info!(namespace, pod, identity, revision, "pod is told of by the operator");
        }
    }

    async fn advance(&mut self) {
        let now = Instant::now();
        if self.hold.is_none_or(|until| until <= now) {
            self.hold = None;
            if self.engine.next_due(now) <= now {
                let round = self.engine.round(now).await;
                self.metrics.round(&round, &self.engine, Instant::now());
            }
        }
        self.answer(Instant::now());
        let status = self.engine.status();
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                *old = status;
            }
            changed
        });
        if self.writing.is_none() && self.checkpoint_due.is_some_and(|due| due <= now) {
            self.save(now);
        }
    }

    /// Without an operator there is nothing to wait for but the next one: the reserve is there for that.
    fn deadline(&self, waiter: &Waiter) -> Instant {
        self.expected.map_or(waiter.deadline, |until| waiter.deadline.min(until.max(waiter.asked)))
    }

    fn answer(&mut self, now: Instant) {
        self.barrier.answer(self.expected.is_none(), now);
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.reply.is_closed() {
                continue;
            }
            match self.engine.grant(&waiter.pod, self.expected.is_none(), now) {
                Err(PodError::Unknown { .. }) if now < self.deadline(&waiter) => self.waiters.push(waiter),
                Err(err) if now < waiter.deadline && !matches!(err, PodError::Unknown { .. }) => {
                    self.waiters.push(waiter);
                }
                result => {
                    let _ = waiter.reply.send(result);
                }
            }
        }
    }

    fn save(&mut self, now: Instant) {
        self.checkpoint_due = None;
        let Some(checkpoint) = &self.checkpoint else { return };
        match checkpoint.write(self.engine.desired(), self.operators.clone(), indexes(&self.engine)) {
            Ok(pending) => self.writing = Some(tokio::task::spawn_blocking(move || pending.finish())),
            Err(err) => self.save_failed(&err, now),
        }
    }

    fn saved(&mut self, result: Result<(), CheckpointError>) {
        self.writing = None;
        if let Err(err) = result {
            self.save_failed(&err, Instant::now());
        }
    }

    fn save_failed(&mut self, err: &CheckpointError, now: Instant) {
        tracing::warn!(err = err as &dyn std::error::Error, "a restart would continue from an older checkpoint");
        self.checkpoint_due = Some(now + CHECKPOINT_RETRY);
    }

    async fn save_now(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        if self.engine.desired().store().is_empty() {
            return;
        }
        self.save(Instant::now());
        if let Some(Ok(Err(err))) = match self.writing.take() {
            Some(writing) => Some(writing.await),
            None => None,
        } {
            tracing::warn!(err = &err as &dyn std::error::Error, "a restart would continue from an older checkpoint");
        }
    }
}

fn indexes(engine: &Engine) -> Vec<PolicyIndex> {
    engine.indexes().into_iter().map(|(identity, index)| PolicyIndex { identity, index }).collect()
}

/// The result of a write, if one is under way.
async fn finished(
    writing: &mut Option<tokio::task::JoinHandle<Result<(), CheckpointError>>>,
) -> Result<(), CheckpointError> {
    match writing {
        Some(handle) => handle.await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}
