//! What follows from the connection to the operator, and what people are told of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axoneme_admin::node::Stream;
use tokio::time::Instant;

use crate::observe::reporter::Reporter;
use crate::sync::{self, SyncError};
use crate::telemetry::health::Health;

/// How the connection is. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    connected: bool,
    since: Instant,
    error: String,
}

impl Default for Link {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Seen { connected: false, since: Instant::now(), error: String::new() })))
    }
}

impl Link {
    /// As it is now. `operators` are those that are known, the last one that was connected first.
    pub(super) fn stream(&self, operators: Vec<String>) -> Stream {
        let seen = self.lock();
        Stream {
            connected: seen.connected,
            operator: operators.first().cloned().unwrap_or_default(),
            since_seconds: seen.since.elapsed().as_secs(),
            known_operators: operators,
            error: seen.error.clone(),
        }
    }

    fn set(&self, connected: bool, error: String) {
        let mut seen = self.lock();
        if seen.connected != connected {
            seen.since = Instant::now();
        }
        (seen.connected, seen.error) = (connected, error);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of the connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) health: Health,
    pub(super) reporter: Reporter,
    pub(super) link: Link,
}

impl sync::Watch for Connection {
    fn connected(&mut self, new_journal: bool) {
        self.link.set(true, String::new());
        self.health.problems("operator", Vec::new());
        if new_journal {
            self.reporter.repeat();
        }
    }

    fn disconnected(&mut self, why: &SyncError) {
        let mut text = why.to_string();
        let mut source = std::error::Error::source(why);
        while let Some(cause) = source.take() {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        self.link.set(false, text.clone());
        self.health.problems("operator", vec![text]);
    }
}
