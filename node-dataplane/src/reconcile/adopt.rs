//! What concerns the kernel as a whole: taking over at a start, finding drift, removing leftovers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Engine, Round};
use super::ops::MapError;
use super::queue::Failure;

/// How often the kernel is compared with what is desired though nothing changed.
pub(super) const REFRESH: Duration = Duration::from_secs(300);
/// How often devices are looked at though nothing changed: the host's addresses are others' to change.
pub(super) const DEVICES: Duration = Duration::from_secs(60);
/// How often a network that does not work is looked at: whoever sets a sysctl is not heard.
pub(super) const BROKEN: Duration = Duration::from_secs(5);
/// Between tries of what concerns whole maps.
const MAP_RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes over what the kernel has, once. Whether that is done.
    pub(super) fn adopt(&mut self, now: Instant) -> bool {
        let Some(saved) = &self.indexes else { return true };
        if now < self.adopt_due {
            return false;
        }
        let mut indexes = BTreeMap::new();
        // What an attachment says is newer than a checkpoint.
        for endpoint in self.endpoints.ops().attached() {
            indexes.insert(endpoint.enforcement.identity, endpoint.enforcement.policy_index);
        }
        let taken: BTreeSet<u32> = indexes.values().copied().collect();
        for (&identity, &index) in saved.iter().filter(|(_, index)| !taken.contains(index)) {
            indexes.entry(identity).or_insert(index);
        }
        if let Err(err) = self.policies.adopt(&indexes, now).and_then(|()| self.services.adopt()) {
            self.problem = Some(format!("cannot take over what the kernel has: {}", Failure::from(err).message));
            self.adopt_due = now + MAP_RETRY;
            return false;
        }
        self.problem = None;
        self.indexes = None;
        let since = self.desired.revision();
        self.endpoints.mark_attached(since);
        let attached = self.endpoints.ops().attached();
        self.forced = attached.iter().map(|endpoint| endpoint.pod_uid.as_str().into()).collect();
        let enforced = attached.into_iter().map(|endpoint| (endpoint.pod_uid.into(), endpoint.enforcement.identity));
        self.identities.extend(enforced);
        // Also when nothing is desired yet: then it says what is missing.
        self.network.queue.mark((), since);
        if !self.desired.store().is_empty() {
            self.policies.queue.mark_all(self.desired.policies().map(|identity| (identity, since)));
            self.services.compare(&self.desired);
            self.refresh_due = now;
        }
        true
    }

    /// Compares everything with the kernel now and then: drift is found, and host addresses followed.
    pub(super) fn refresh(&mut self, now: Instant, round: &mut Round) {
        if now >= self.devices_due {
            self.devices_due = now + if self.network.is_refused() { BROKEN } else { DEVICES };
            self.network.queue.mark((), self.desired.revision());
        }
        if now < self.refresh_due {
            return;
        }
        self.refresh_due = now + REFRESH;
        match self.compare() {
            Ok(drifted) => round.drifted = drifted,
            Err(err) => {
                tracing::warn!(%err, "the kernel cannot be compared with what is desired");
                self.refresh_due = now + MAP_RETRY;
            }
        }
    }

    fn compare(&mut self) -> Result<usize, MapError> {
        let prune = self.desired.is_complete();
        let peers = self.peers.compare(&self.desired, prune)?;
        let policies = self.policies.verify(self.desired.revision())?;
        self.policies.mark_undesired(&self.desired);
        self.services.compare(&self.desired);
        Ok(peers + policies)
    }

    /// Once after a start, when everything desired was written: removes what is left of earlier runs.
    pub(super) fn prune(&mut self, now: Instant) {
        let due = self.prune_due.is_some_and(|due| due <= now);
        if !due || !self.desired.is_complete() || self.lowest_pending().is_some() {
            return;
        }
        let result = self
            .peers
            .compare(&self.desired, true)
            .and_then(|_| self.policies.prune(&self.desired, now))
            .and_then(|()| self.services.prune(&self.desired));
        self.prune_due = match result {
            Ok(true) => None,
            Ok(false) => Some(now + MAP_RETRY),
            Err(err) => {
                tracing::warn!(%err, "leftovers of an earlier run cannot be removed");
                Some(now + MAP_RETRY)
            }
        };
        self.garbage_due = Some(now);
    }
}
