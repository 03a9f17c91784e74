//! Folds reports and writes what has changed, slowly.
//!
//! Every replica folds; only a leader writes. What changes twice before it was written is written once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::endpoint::{object, says};
use super::notice::Notices;
use super::problems::Problems;
use super::validity::{Policies, Validities};
use super::writer::{Endpoints, KubernetesWriter, StatusMetrics};
use crate::engine::{Demands, EndpointReport, EndpointState, Report};
use crate::leader::Tenure;
use crate::object::{Name, ObjectKey, Validity};
use crate::watch as watched;

/// Between two writes: 50 a second.
const PACE: Duration = Duration::from_millis(20);

/// Writes at the same time.
const CONCURRENT: usize = 16;

/// After a failed comparison.
const COMPARE_AGAIN: Duration = Duration::from_secs(10);

/// Between two looks at what is due to be said.
const SAY: Duration = Duration::from_secs(1);

/// A new endpoint that is not ready is written after this time only: most often it is ready by then, also when many pods start on
/// one node, and the API server has other things to do while they do.
const PATIENCE: Duration = Duration::from_secs(8);

/// What should be there, and what is.
#[derive(Debug, Default)]
pub struct Board {
    wanted: HashMap<Name, Arc<EndpointReport>>,
    /// As last written or found.
    written: HashMap<Name, Arc<EndpointReport>>,
    queue: VecDeque<Name>,
    queued: HashSet<Name>,
    /// To be looked at again, in this order.
    later: VecDeque<(Instant, Name)>,
    problems: Problems,
    validities: Validities,
    complete: bool,
}

/// Where it is learnt what to say, and whether to say it.
#[derive(Debug)]
pub struct Feeds {
    /// Of the engine.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// Of the watches.
    pub problems: mpsc::UnboundedReceiver<watched::Problems>,
    /// What waits.
    pub demands: watch::Receiver<Arc<Demands>>,
    /// The tenure, while this process leads.
    pub lead: watch::Receiver<Option<Tenure>>,
}

/// What a write came to.
type Written = (Name, Option<Arc<EndpointReport>>, Result<(), kube::Error>);

/// The same of a condition.
type Said = (ObjectKey, Arc<Validity>, Result<(), kube::Error>);

/// Folds reports until the engine ends, and writes while `lead` has a tenure that holds. All CiliumEndpoints are compared with
/// the reports each `compare` (0: only when it begins to lead): users delete and edit them, and pods come and go while nobody leads.
pub async fn report(
    writer: KubernetesWriter,
    compare: Duration,
    feeds: Feeds,
    notices: Notices,
    metrics: StatusMetrics,
) {
    run(writer, compare, feeds, notices, metrics).await;
}

pub(super) async fn run<W: Endpoints + Policies>(
    writer: W,
    interval: Duration,
    feeds: Feeds,
    notices: Notices,
    metrics: StatusMetrics,
) {
    let Feeds { mut reports, mut problems, mut demands, mut lead } = feeds;
    let mut board = Board::default();
    let mut writes: JoinSet<Written> = JoinSet::new();
    let mut conditions: JoinSet<Said> = JoinSet::new();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut say = tokio::time::interval(SAY);
    say.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut compare_at = Some(Instant::now());
    let mut batch = Vec::new();
    loop {
        let leads = lead.borrow_and_update().as_ref().is_some_and(Tenure::holds);
        let ready = leads && board.complete;
        board.look_again(Instant::now());
        if ready && compare_at.is_some_and(|at| Instant::now() >= at) {
            let pause = match board.compare(&writer).await {
                Ok(()) => interval,
                Err(error) => {
                    warn!(%error, "CiliumEndpoints cannot be listed");
                    COMPARE_AGAIN
                }
            };
            compare_at = (!pause.is_zero()).then(|| Instant::now() + pause);
        }
        metrics.waiting.set(i64::try_from(board.queue.len()).unwrap_or(i64::MAX));
        tokio::select! {
            biased;
            got = reports.recv_many(&mut batch, 1024) => {
                if got == 0 {
                    return;
                }
                for report in batch.drain(..) {
                    board.fold(report);
                }
            }
            Some(problem) = problems.recv() => board.problems.watched(&problem, Instant::now()),
            changed = demands.changed() => {
                if changed.is_err() {
                    return;
                }
                let snapshot = Arc::clone(&demands.borrow_and_update());
                board.problems.unmet(&snapshot.unmet, Instant::now());
            }
            changed = lead.changed() => if changed.is_err() { return },
            Some(Ok((name, report, result))) = writes.join_next() => board.finish(name, report, result, &metrics),
            Some(Ok((policy, said, result))) = conditions.join_next() => board.said(&policy, &said, result),
            _ = pace.tick(), if ready && (!board.queue.is_empty() || board.validities.waits()) => {
                if writes.len() < CONCURRENT {
                    board.write(&writer, &mut writes);
                }
                if conditions.len() < CONCURRENT {
                    board.say(&writer, &mut conditions);
                }
            }
            _ = say.tick(), if leads => for notice in board.problems.due(Instant::now()) {
                notices.say(notice.clone());
            },
        }
    }
}

impl Board {
    fn fold(&mut self, report: Report) {
        match report {
            Report::Endpoint(name, Some(wanted)) => {
                let starts = matches!(wanted.state, EndpointState::WaitingForIdentity | EndpointState::Creating);
                let known = self.wanted.insert(name.clone(), wanted).is_some();
                match starts && !self.written.contains_key(&name) {
                    true if known => {}
                    true => self.later.push_back((Instant::now() + PATIENCE, name)),
                    false => self.enqueue(name),
                }
            }
            Report::Endpoint(name, None) => {
                self.wanted.remove(&name);
                self.enqueue(name);
            }
            Report::Diagnostics(object, diagnostics) => {
                self.problems.compiled(&object, &diagnostics, Instant::now());
            }
            Report::Validity(policy, validity) => self.validities.fold(policy, validity, Instant::now()),
            Report::Failures(node, failures) => {
                for (object, failure) in &failures {
                    self.problems.failed(&node, object.as_ref(), failure, Instant::now());
                }
            }
            Report::Complete => self.complete = true,
        }
    }

    /// What was put off is written now, unless it was in the meantime.
    fn look_again(&mut self, now: Instant) {
        while let Some((_, name)) = self.later.pop_front_if(|(due, _)| *due <= now) {
            self.enqueue(name);
        }
    }

    fn enqueue(&mut self, name: Name) {
        if self.queued.insert(name.clone()) {
            self.queue.push_back(name);
        }
    }

    /// Starts the next write that is needed.
    fn write<E: Endpoints>(&mut self, endpoints: &E, writes: &mut JoinSet<Written>) {
        while let Some(name) = self.queue.pop_front() {
            self.queued.remove(&name);
            let wanted = self.wanted.get(&name).cloned();
            let written = self.written.get(&name);
            if wanted.is_some() && written == wanted.as_ref() {
                continue;
            }
            let exists = written.is_some();
            let endpoints = endpoints.clone();
            writes.spawn(async move {
                let result = match &wanted {
                    Some(report) => endpoints.write(&name, &object(&name, report), exists).await,
                    None => endpoints.delete(&name).await,
                };
                (name, wanted, result)
            });
            return;
        }
    }

    /// Starts to write the next condition that is due.
    fn say<P: Policies>(&mut self, policies: &P, writes: &mut JoinSet<Said>) {
        if let Some((policy, validity)) = self.validities.next(Instant::now()) {
            let policies = policies.clone();
            writes.spawn(async move {
                let result = policies.write(&policy, &validity).await;
                (policy, validity, result)
            });
        }
    }

    fn said(&mut self, policy: &ObjectKey, said: &Validity, result: Result<(), kube::Error>) {
        if let Err(error) = &result {
            debug!(%policy, %error, "the condition of a policy could not be written");
        }
        self.validities.finish(policy, said, result.is_ok(), Instant::now());
    }

    fn finish(
        &mut self,
        name: Name,
        report: Option<Arc<EndpointReport>>,
        result: Result<(), kube::Error>,
        metrics: &StatusMetrics,
    ) {
        match result {
            Ok(()) => {
                metrics.written.inc();
                match report {
                    Some(report) => self.written.insert(name.clone(), report),
                    None => self.written.remove(&name),
                };
                // A write that overtook this one may have been undone by it.
                if self.written.get(&name) != self.wanted.get(&name) {
                    self.enqueue(name);
                }
            }
            Err(error) => {
                metrics.failed.inc();
                debug!(endpoint = %name, %error, "a CiliumEndpoint could not be written");
                self.written.remove(&name);
                self.enqueue(name);
            }
        }
    }

    /// Finds what is there: what says already what it shall is not written, what nobody reports is deleted.
    async fn compare<E: Endpoints>(&mut self, endpoints: &E) -> Result<(), kube::Error> {
        let mut found = HashMap::new();
        let mut continued = None;
        loop {
            let (page, next) = endpoints.list(continued).await?;
            for endpoint in page {
                let (namespace, name) = (endpoint.metadata.namespace.as_deref(), endpoint.metadata.name.as_deref());
                let name = Name::new(namespace.unwrap_or_default(), name.unwrap_or_default());
                match self.wanted.get(&name) {
                    Some(wanted) if says(&endpoint, &object(&name, wanted)) => {
                        found.insert(name, Arc::clone(wanted));
                    }
                    Some(_) => {}
                    None => self.enqueue(name),
                }
            }
            continued = next;
            if continued.is_none() {
                break;
            }
        }
        self.written = found;
        let missing: Vec<_> = self.wanted.keys().filter(|name| !self.written.contains_key(*name)).cloned().collect();
        for name in missing {
            self.enqueue(name);
        }
        Ok(())
    }
}
