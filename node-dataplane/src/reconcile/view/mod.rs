//! What is desired next to what the kernel has, for people: read from the maps when somebody asks, never remembered.

mod endpoints;
mod peers;
mod policies;
mod services;
mod verdicts;

use axoneme_admin::node::{Counts, Sync};

use super::Engine;
use super::queue::{Failure, Queue};

impl Engine {
    /// How much of it is in the kernel.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            endpoints: self.endpoints.ops().attached().len(),
            endpoints_waiting: self.endpoints.queue.failures().count(),
            policies: self.policies.len(),
            frontends: self.services.frontends(),
            ..Counts::default()
        }
    }
}

/// How a key compares: what is being worked on is told as such, whatever the kernel has at this moment.
fn judge<K: Ord + Clone, T: PartialEq>(
    queue: &Queue<K>,
    key: &K,
    desired: Option<&T>,
    programmed: Option<&T>,
) -> (Sync, String) {
    if let Some(failure) = queue.failure(key) {
        return (Sync::Failing, reason(failure));
    }
    let sync = match (desired, programmed) {
        _ if queue.is_open(key) => Sync::Pending,
        (desired, programmed) if desired == programmed => Sync::AsDesired,
        (Some(_), None) => Sync::Missing,
        (None, Some(_)) => Sync::Leftover,
        _ => Sync::Differs,
    };
    (sync, String::new())
}

fn reason(failure: &Failure) -> String {
    failure.message.clone()
}
