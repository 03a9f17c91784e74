//! Which keys have to be looked at, which failed, and how far that has come.

use std::collections::BTreeMap;
use std::time::Duration;

use axoneme_proto::nodesync::FailureCode;
use tokio::time::Instant;

use super::ops::{DeviceError, EndpointApplyError, MapError};
use crate::desired::RowId;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Why a key is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of reason.
    pub code: FailureCode,
    /// With KERNEL.
    pub errno: i32,
    /// In words.
    pub message: String,
    /// The row that asked for it, if one did.
    pub row: Option<RowId>,
}

impl Failure {
    /// It waits for another row.
    pub fn dependency(message: impl Into<String>) -> Self {
        Self { code: FailureCode::Dependency, errno: 0, message: message.into(), row: None }
    }

    /// A node-local resource is used up.
    pub fn capacity(message: impl Into<String>) -> Self {
        Self { code: FailureCode::Capacity, errno: 0, message: message.into(), row: None }
    }

    /// Of this row.
    #[must_use]
    pub fn of(self, row: RowId) -> Self {
        Self { row: Some(row), ..self }
    }
}

impl From<MapError> for Failure {
    fn from(err: MapError) -> Self {
        match &err {
            MapError::Capacity { .. } => Self::capacity(err.to_string()),
            MapError::Kernel { source, .. } => Self {
                code: FailureCode::Kernel,
                errno: source.raw_os_error().unwrap_or(0),
                message: format!("{err}: {source}"),
                row: None,
            },
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(err: DeviceError) -> Self {
        let (errno, message) = match &err.source {
            Some(source) => (source.raw_os_error().unwrap_or(0), format!("{err}: {source}")),
            None => (0, err.to_string()),
        };
        Self { code: FailureCode::Kernel, errno, message, row: None }
    }
}

impl From<EndpointApplyError> for Failure {
    fn from(err: EndpointApplyError) -> Self {
        match err {
            EndpointApplyError::Map(err) => err.into(),
            EndpointApplyError::Device(err) => err.into(),
            EndpointApplyError::Persist(source) => Self {
                code: FailureCode::Kernel,
                errno: source.raw_os_error().unwrap_or(0),
                message: format!("cannot persist the attachment: {source}"),
                row: None,
            },
        }
    }
}

#[derive(Debug)]
struct Failing {
    since: u64,
    attempts: u32,
    due: Instant,
    failure: Failure,
}

/// A key that is to be looked at now.
#[derive(Debug)]
pub struct Work<K> {
    /// The key.
    pub key: K,
    since: u64,
    attempts: u32,
}

/// The keys of one reconciler.
///
/// A key waits with the lowest revision that asks for it; one that failed waits for its time, and when it is asked for again
/// it is tried at once.
#[derive(Debug)]
pub struct Queue<K> {
    pending: BTreeMap<K, u64>,
    failing: BTreeMap<K, Failing>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { pending: BTreeMap::new(), failing: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Asks for a key, on behalf of this revision.
    pub fn mark(&mut self, key: K, since: u64) {
        let since = self.failing.get(&key).map_or(since, |failing| failing.since.min(since));
        let lowest = self.pending.entry(key).or_insert(since);
        *lowest = (*lowest).min(since);
    }

    /// Asks for many.
    pub fn mark_all(&mut self, keys: impl IntoIterator<Item = (K, u64)>) {
        keys.into_iter().for_each(|(key, since)| self.mark(key, since));
    }

    /// At most `limit` keys that are asked for or due for another try. Each must come back by `done` or `failed`.
    pub fn take(&mut self, now: Instant, limit: usize) -> Vec<Work<K>> {
        let mut work = Vec::new();
        while work.len() < limit {
            let Some((key, since)) = self.pending.pop_first() else { break };
            let attempts = self.failing.remove(&key).map_or(0, |failing| failing.attempts);
            work.push(Work { key, since, attempts });
        }
        let room = limit - work.len();
        let due: Vec<K> =
            self.failing.iter().filter(|(_, f)| f.due <= now).take(room).map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Some(failing) = self.failing.remove(&key) {
                work.push(Work { key, since: failing.since, attempts: failing.attempts });
            }
        }
        work
    }

    /// The key could not be brought to what is desired.
    pub fn failed(&mut self, work: Work<K>, failure: Failure, now: Instant) {
        let delay = FIRST_RETRY.saturating_mul(1 << work.attempts.min(16)).min(LAST_RETRY);
        let failing =
            Failing { since: work.since, attempts: work.attempts.saturating_add(1), due: now + delay, failure };
        self.failing.insert(work.key, failing);
    }

    /// Ends `work` by what came of it.
    pub fn settle(&mut self, work: Work<K>, result: Result<(), Failure>, now: Instant) {
        if let Err(failure) = result {
            self.failed(work, failure, now);
        }
    }

    /// Lowest revision that was not tried yet.
    #[must_use]
    pub fn lowest_pending(&self) -> Option<u64> {
        self.pending.values().copied().min()
    }

    /// Lowest revision that was tried and failed.
    #[must_use]
    pub fn lowest_failing(&self) -> Option<u64> {
        self.failing.values().map(|failing| failing.since).min()
    }

    /// When there is something to do next; None: never.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() { self.failing.values().map(|failing| failing.due).min() } else { Some(now) }
    }

    /// What is not as desired, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&K, &Failure)> {
        self.failing.iter().map(|(key, failing)| (key, &failing.failure))
    }

    /// Whether this key waits or fails.
    #[must_use]
    pub fn is_open(&self, key: &K) -> bool {
        self.pending.contains_key(key) || self.failing.contains_key(key)
    }

    /// Why this key fails.
    #[must_use]
    pub fn failure(&self, key: &K) -> Option<&Failure> {
        self.failing.get(key).map(|failing| &failing.failure)
    }

    /// Revisions of another journal say nothing in this one: whatever waits is behind everything.
    pub fn forget_revisions(&mut self) {
        self.pending.values_mut().for_each(|since| *since = 1);
        self.failing.values_mut().for_each(|failing| failing.since = 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue<&'static str>, now: Instant) -> Vec<&'static str> {
        let mut keys = Vec::new();
        for work in queue.take(now, 10) {
            keys.push(work.key);
            queue.failed(work, Failure::dependency("x"), now);
        }
        keys
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_key_waits_longer_each_time_and_keeps_its_lowest_revision() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.mark("a", 7);
        assert_eq!(queue.lowest_pending(), Some(7));
        assert_eq!(take(&mut queue, start), ["a"]);
        assert_eq!((queue.lowest_pending(), queue.lowest_failing()), (None, Some(7)));
        assert_eq!(queue.next_due(start), Some(start + FIRST_RETRY));
        assert_eq!(take(&mut queue, start), Vec::<&str>::new());
        assert_eq!(take(&mut queue, start + FIRST_RETRY), ["a"]);
        assert_eq!(queue.next_due(start), Some(start + FIRST_RETRY * 3));
        queue.mark("a", 9);
        assert_eq!(queue.lowest_pending(), Some(7));
        assert_eq!(queue.next_due(start), Some(start));
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_are_bounded() {
        let mut queue = Queue::default();
        queue.mark_all((0..10).map(|key| (key, 1)));
        assert_eq!(queue.take(Instant::now(), 4).len(), 4);
        assert_eq!(queue.take(Instant::now(), 100).len(), 6);
    }
}
