//! The task, and how the rest of the operator speaks with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axoneme_admin::explain::{Explanation, Flow};
use axoneme_admin::operator::Follower;
use axoneme_proto::nodesync::{Ack, Delta, Hello, Told, Welcome};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::core::{Config, Core, Outcome};
use super::demands::Demands;
use super::freshness::{CaughtUp, Freshness};
use super::input::{Input, SessionEvent};
use super::mailbox::{Mailbox, Mailboxes};
use super::metrics::PodMetrics;
use super::reports::Report;
use crate::explain::Unclear;
use crate::object::Versions;
use crate::publish::journal::Journal;
use crate::publish::session::{Refused, Rung, SessionState};

/// Watches wait when this many inputs are not taken in yet.
const QUEUE: usize = 4_096;
/// People who ask at a time.
const QUESTIONS: usize = 4;
/// Inputs taken in before rows are published.
const BATCH: usize = 4_096;
/// How long more inputs are waited for once there is one. A few events of one cause often come together.
const GATHER: Duration = Duration::from_millis(1);
/// How often it is looked whether something waited for is free.
const TICK: Duration = Duration::from_millis(250);

/// What sessions wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pulse {
    complete: bool,
    revision: u64,
    barrier: u64,
}

/// What people ask, and where the answer goes. Who has asked may have gone.
#[derive(Debug)]
enum Question {
    Followers(oneshot::Sender<Vec<Follower>>),
    Explain(Flow, oneshot::Sender<Result<Explanation, Unclear>>),
}

/// The engine before it runs.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    journal: Arc<RwLock<Journal>>,
    inputs: mpsc::Receiver<Input>,
    sessions: mpsc::UnboundedReceiver<Input>,
    questions: mpsc::Receiver<Question>,
    pulse: watch::Sender<Pulse>,
    known: watch::Sender<Versions>,
    mailboxes: Mailboxes,
    metrics: PodMetrics,
    demands: watch::Sender<Arc<Demands>>,
    reports: mpsc::UnboundedSender<Report>,
}

/// What the engine tells.
#[derive(Debug)]
pub struct Outputs {
    /// What is to be decided, newest snapshot.
    pub demands: watch::Receiver<Arc<Demands>>,
    /// What is to be reported, every change.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// Counts, to be registered.
    pub metrics: PodMetrics,
}

/// Speaks with the engine.
#[derive(Clone, Debug)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    sessions: mpsc::UnboundedSender<Input>,
    questions: mpsc::Sender<Question>,
    journal: Arc<RwLock<Journal>>,
    pulse: watch::Receiver<Pulse>,
    freshness: Freshness,
    mailboxes: Mailboxes,
    next_session: Arc<AtomicU64>,
}

/// The engine has ended.
#[derive(Debug, thiserror::Error)]
#[error("the engine has ended")]
pub struct EngineEnded;

impl Engine {
    /// An engine, with what speaks with it and what it tells. `epoch` names its journal and must be random.
    #[must_use]
    pub fn new(config: Config, epoch: [u8; 16]) -> (Self, Handle, Outputs) {
        let journal = Arc::new(RwLock::new(Journal::new(epoch, config.tombstones)));
        let (inputs_in, inputs) = mpsc::channel(QUEUE);
        let (sessions_in, sessions) = mpsc::unbounded_channel();
        let (questions_in, questions) = mpsc::channel(QUESTIONS);
        let (pulse, pulse_out) = watch::channel(Pulse::default());
        let (known, freshness) = Freshness::new();
        let (demands, demands_out) = watch::channel(Arc::default());
        let (reports, reports_out) = mpsc::unbounded_channel();
        let handle = Handle {
            inputs: inputs_in,
            sessions: sessions_in,
            questions: questions_in,
            journal: Arc::clone(&journal),
            pulse: pulse_out,
            freshness,
            mailboxes: Mailboxes::default(),
            next_session: Arc::default(),
        };
        let metrics = PodMetrics::default();
        let outputs = Outputs { demands: demands_out, reports: reports_out, metrics: metrics.clone() };
        let (core, mailboxes) = (Core::new(config), handle.mailboxes.clone());
        let engine =
            Self { core, journal, inputs, sessions, questions, pulse, known, mailboxes, metrics, demands, reports };
        (engine, handle, outputs)
    }

    /// Runs until the last handle is gone.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        let mut news = Vec::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                got = self.sessions.recv_many(&mut news, BATCH) => if got == 0 { return },
                got = self.inputs.recv_many(&mut batch, BATCH) => {
                    if got == 0 {
                        return;
                    }
                    self.gather(&mut batch).await;
                }
                Some(question) = self.questions.recv() => self.answer(question),
                _ = ticks.tick() => self.tick(),
            }
            batch.append(&mut news);
            if !batch.is_empty() {
                self.commit(&mut batch);
            }
        }
    }

    /// Takes in what comes in the next moment, too.
    async fn gather(&mut self, batch: &mut Vec<Input>) {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let more = BATCH - batch.len();
            match tokio::time::timeout_at(until, self.inputs.recv_many(batch, more)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Input>) {
        let now = Instant::now().into_std();
        for input in batch.drain(..) {
            self.core.apply(input, now);
        }
        let journal = &self.journal;
        let outcome = self.core.commit(now, |rows| {
            let mut journal = journal.write().unwrap_or_else(PoisonError::into_inner);
            journal.commit(rows)
        });
        self.tell(outcome);
    }

    fn answer(&self, question: Question) {
        match question {
            Question::Followers(reply) => drop(reply.send(self.core.acks().followers(Instant::now().into_std()))),
            Question::Explain(flow, reply) => {
                let journal = self.journal.read().unwrap_or_else(PoisonError::into_inner);
                drop(reply.send(self.core.known(&journal).explain(&flow)));
            }
        }
    }

    fn tick(&mut self) {
        let (outcome, barrier) = self.core.tick(Instant::now().into_std());
        self.journal.write().unwrap_or_else(PoisonError::into_inner).raise_barrier(barrier);
        self.tell(outcome);
    }

    fn tell(&self, outcome: Outcome) {
        let (revision, barrier) = {
            let journal = self.journal.read().unwrap_or_else(PoisonError::into_inner);
            (journal.revision(), journal.barrier())
        };
        let pulse = Pulse { complete: self.core.is_complete(), revision, barrier };
        self.pulse.send_if_modified(|old| std::mem::replace(old, pulse) != pulse);
        let known = self.core.inputs();
        self.known.send_if_modified(|old| std::mem::replace(old, known) != known);
        self.metrics.count(&outcome.barriers, &outcome.published);
        self.mailboxes.deliver(outcome.barriers.told);
        // Whoever does not listen does not want to know.
        for report in outcome.reports {
            let _ = self.reports.send(report);
        }
        if let Some(demands) = outcome.demands {
            self.demands.send_replace(demands);
        }
    }
}

impl Handle {
    /// Tells the engine; waits while it has much to do.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn send(&self, input: Input) -> Result<(), EngineEnded> {
        self.inputs.send(input).await.map_err(|_| EngineEnded)
    }

    /// Whether all inputs are complete, so that nodes can be served.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.pulse.borrow().complete
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.pulse.borrow().revision
    }

    /// Waits until all inputs are complete.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn complete(&self) -> Result<(), EngineEnded> {
        self.pulse.clone().wait_for(|pulse| pulse.complete).await.map(|_| ()).map_err(|_| EngineEnded)
    }

    /// Waits, but not for long, until this replica knows what the rows of this node were made of. Those of its own journal it does.
    pub async fn catch_up(&self, hello: &Hello) -> CaughtUp {
        let epoch = self.with_journal(Journal::epoch);
        match &hello.cursor {
            Some(cursor) if *cursor.epoch == epoch => CaughtUp::AtOnce,
            _ => self.freshness.catch_up(hello).await,
        }
    }

    /// What nodes have spoken of. A watch that is behind that, and stays so, should list anew.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Versions> {
        self.freshness.wanted()
    }

    /// Every node of the cluster, and how far it follows this replica.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn followers(&self) -> Result<Vec<Follower>, EngineEnded> {
        self.ask(Question::Followers).await
    }

    /// What becomes of a flow, and why.
    ///
    /// # Errors
    /// When the engine has ended; and when the flow names what there is not.
    pub async fn explain(&self, flow: Flow) -> Result<Result<Explanation, Unclear>, EngineEnded> {
        self.ask(|reply| Question::Explain(flow, reply)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, EngineEnded> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.map_err(|_| EngineEnded)?;
        answer.await.map_err(|_| EngineEnded)
    }

    /// Reads the journal, for metrics and dumps. The engine cannot publish meanwhile.
    pub fn with_journal<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.journal.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a session for the node that the certificate names. Does not wait for inputs to be complete: see
    /// [`Handle::complete`].
    ///
    /// # Errors
    /// When the node cannot be served; before inputs are complete no node is known.
    pub fn open(&self, node: &Arc<str>, hello: &Hello) -> Result<Session, Refused> {
        let opened = |journal: &Journal| (SessionState::open(journal, node, hello), journal.revision());
        let (opened, newest) = self.with_journal(opened);
        let (state, welcome, rung) = opened?;
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let mailbox = self.mailboxes.open(node);
        let session = Session { state, welcome, rung, node: Arc::clone(node), id, mailbox, handle: self.clone() };
        session.tell(SessionEvent::Opened { revision: session.state.cursor(), newest });
        Ok(session)
    }
}

/// A node's session. Ends when it is dropped.
#[derive(Debug)]
pub struct Session {
    state: SessionState,
    welcome: Welcome,
    rung: Rung,
    node: Arc<str>,
    id: u64,
    mailbox: Arc<Mailbox>,
    handle: Handle,
}

/// What a session has for its node.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The next chunk.
    Delta(Delta),
    /// Who has to know of these pods does; comes after their rows.
    Told(Told),
}

impl Session {
    /// The answer to the Hello, without `operators`.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        self.welcome.clone()
    }

    /// How it resumed.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Whether a delta was begun, or is due, and was not given back to its end.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.state.is_sending()
    }

    /// What comes next, when there is something. Cancel safe: it is taken only when it is given back.
    ///
    /// # Errors
    /// When the Node is gone or the engine has ended.
    pub async fn next(&mut self) -> Result<News, SessionEnded> {
        loop {
            // Seen before the journal is read, so that what comes in between wakes.
            self.handle.pulse.borrow_and_update();
            let chunk = {
                let journal = self.handle.journal.read().unwrap_or_else(PoisonError::into_inner);
                self.state.next(&journal)
            };
            if let Some(chunk) = chunk? {
                return Ok(News::Delta(chunk));
            }
            if let Some(told) = self.mailbox.take(self.state.sent_up_to()) {
                return Ok(News::Told(told));
            }
            tokio::select! {
                changed = self.handle.pulse.changed() => changed.map_err(|_| SessionEnded::Engine(EngineEnded))?,
                () = self.mailbox.filled() => {}
            }
        }
    }

    /// The node acknowledged. May open the window: ask [`Session::next`] again.
    pub fn ack(&mut self, ack: Ack) {
        self.state.acked(ack.received);
        self.tell(SessionEvent::Acked(ack));
    }

    fn tell(&self, event: SessionEvent) {
        // Without an engine there is nobody to be told.
        let _ = self.handle.sessions.send(Input::Session { node: Arc::clone(&self.node), session: self.id, event });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.mailboxes.close(&self.node, &self.mailbox);
        self.tell(SessionEvent::Closed);
    }
}

/// Why a session ended on the operator's side.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnded {
    /// The node cannot be served any more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The operator stops.
    #[error(transparent)]
    Engine(#[from] EngineEnded),
}

#[cfg(test)]
mod tests;
