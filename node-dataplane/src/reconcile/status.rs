//! How far the kernel follows what is desired: what acks, readiness and conditions are made of.

use std::collections::BTreeMap;

use axoneme_proto::nodesync::{FailureCode, RowFailure};

use super::engine::Engine;
use super::queue::Failure;
use crate::desired::RowId;

/// Failing rows that are told one by one; the rest is a number.
const LISTED: usize = 1024;

/// How far the kernel follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The journal of the revisions.
    pub epoch: Vec<u8>,
    /// Committed.
    pub received: u64,
    /// Tried at least once.
    pub attempted: u64,
    /// Lowest revision that failed and is tried again; 0: none.
    pub retry_low_watermark: u64,
    /// Rows that are not applied, and why.
    pub failures: BTreeMap<RowId, RowFailure>,
    /// How many keys or rows are not as desired.
    pub failing: u64,
    /// What is wrong, for people.
    pub problems: Vec<String>,
    /// Devices and routes are set up.
    pub network: bool,
    /// Something was desired, be it long ago, and all of it was tried.
    pub applied: bool,
}

impl Status {
    pub(super) fn of(engine: &Engine, problem: Option<&str>) -> Self {
        let desired = &engine.desired;
        let mut status = Self {
            epoch: desired.cursor().map(|cursor| cursor.epoch.clone()).unwrap_or_default(),
            received: desired.revision(),
            attempted: engine.lowest_pending().map_or(desired.revision(), |lowest| lowest.saturating_sub(1)),
            retry_low_watermark: engine.lowest_failing().unwrap_or(0),
            network: engine.network.works(),
            applied: engine.is_adopted() && !desired.store().is_empty() && engine.lowest_pending().is_none(),
            ..Self::default()
        };
        status.problems.extend(problem.map(str::to_owned));
        status.problems.extend(engine.network.problems().map(str::to_owned));
        for (id, rejection) in desired.rejected() {
            let failure =
                Failure { code: rejection.code, errno: 0, message: rejection.message.clone(), row: Some(id.clone()) };
            status.add(&failure, rejection.revision);
        }
        let failures = engine.network.failures();
        let failures = failures
            .chain(engine.peers.queue.failures().map(|(_, failure)| failure))
            .chain(engine.policies.queue.failures().map(|(_, failure)| failure))
            .chain(engine.services.queue.failures().map(|(_, failure)| failure))
            .chain(engine.endpoints.queue.failures().map(|(_, failure)| failure));
        for failure in failures {
            let revision = failure.row.as_ref().and_then(|row| desired.row_revision(row)).unwrap_or(0);
            status.add(failure, revision);
        }
        if status.failing > 0 {
            let first = status.failures.values().next().map(|failure| format!(", first: {}", failure.message));
            let line = format!("{} entries are not as desired{}", status.failing, first.unwrap_or_default());
            status.problems.push(line);
        }
        status
    }

    fn add(&mut self, failure: &Failure, revision: u64) {
        self.failing += 1;
        let Some(row) = failure.row.as_ref().filter(|_| self.failures.len() < LISTED) else { return };
        let told = RowFailure {
            key: Some(row.into()),
            revision,
            code: failure.code.into(),
            errno: failure.errno,
            message: failure.message.clone(),
        };
        self.failures.insert(row.clone(), told);
    }

    /// Whether every row up to this revision is in the kernel.
    #[must_use]
    pub fn is_applied_through(&self, revision: u64) -> bool {
        self.attempted >= revision && (self.retry_low_watermark == 0 || self.retry_low_watermark > revision)
    }
}

/// Rows whose state differs from what was told before, at most `limit`; `told` is brought up to date with them.
pub fn changed(
    told: &mut BTreeMap<RowId, RowFailure>,
    now: &BTreeMap<RowId, RowFailure>,
    limit: usize,
) -> Vec<RowFailure> {
    let mut out = Vec::new();
    let cleared: Vec<RowId> = told.keys().filter(|id| !now.contains_key(id)).take(limit).cloned().collect();
    for id in cleared {
        if let Some(failure) = told.remove(&id) {
            let code = FailureCode::None.into();
            out.push(RowFailure { code, errno: 0, message: String::new(), ..failure });
        }
    }
    let new: Vec<_> = now.iter().filter(|(id, failure)| told.get(id) != Some(failure)).collect();
    for (id, failure) in new.into_iter().take(limit - out.len()) {
        told.insert(id.clone(), failure.clone());
        out.push(failure.clone());
    }
    out
}
