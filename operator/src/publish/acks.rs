//! What every node has acknowledged: addresses and identities are used again only behind it.
//!
//! Something that was removed at a revision is forgotten when each node of the cluster has applied that revision. A node that
//! says nothing for five minutes does not hold up the others; it is told everything when it comes back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axoneme_admin::operator::Follower;
use axoneme_proto::nodesync::Ack;

use crate::engine::SessionEvent;

/// How long a silent node is waited for.
pub const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Progress {
    session: Option<u64>,
    received: u64,
    attempted: u64,
    retry: u64,
    /// When the node said something last, or came to be known.
    heard: Instant,
}

impl Progress {
    fn applied(&self, revision: u64) -> bool {
        self.applied_to() >= revision
    }

    fn applied_to(&self) -> u64 {
        match self.retry {
            0 => self.attempted,
            retry => self.attempted.min(retry - 1),
        }
    }

    /// Whether what was removed at `revision`, and asked for since `asked`, has to wait for this node.
    fn blocks(&self, revision: u64, asked: Instant, now: Instant) -> bool {
        if self.applied(revision) {
            return false;
        }
        // A connected node has nothing to say until it is asked.
        let quiet_since = if self.session.is_some() { self.heard.max(asked) } else { self.heard };
        let silent = now.saturating_duration_since(quiet_since) >= PATIENCE;
        // What it has committed but cannot write (a map is full) shall not stop the whole cluster.
        let stuck = self.received >= revision && now.saturating_duration_since(asked) >= PATIENCE;
        !silent && !stuck
    }
}

/// Progress of all nodes.
#[derive(Debug, Default)]
pub struct Acks {
    nodes: BTreeMap<Arc<str>, Progress>,
}

impl Acks {
    /// A node exists: it may hold anything until it has said otherwise.
    pub fn expect(&mut self, node: &Arc<str>, now: Instant) {
        let fresh = || Progress { session: None, received: 0, attempted: 0, retry: 0, heard: now };
        self.nodes.entry(Arc::clone(node)).or_insert_with(fresh);
    }

    /// A node exists no longer and holds up nothing.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Something happened in a session of `node`.
    pub fn event(&mut self, node: &Arc<str>, session: u64, event: &SessionEvent, now: Instant) {
        // A node that is gone may still have a session for a moment.
        let Some(progress) = self.nodes.get_mut(node) else { return };
        match event {
            SessionEvent::Opened { revision, .. } => {
                *progress =
                    Progress { session: Some(session), received: *revision, attempted: 0, retry: 0, heard: now };
            }
            SessionEvent::Acked(ack) if progress.session == Some(session) => {
                let Ack { received, attempted, retry_low_watermark, .. } = ack;
                progress.received = *received;
                progress.attempted = *attempted;
                progress.retry = *retry_low_watermark;
                progress.heard = now;
            }
            SessionEvent::Closed if progress.session == Some(session) => {
                progress.session = None;
                progress.heard = now;
            }
            SessionEvent::Acked(_) | SessionEvent::Closed => {}
        }
    }

    /// For how long a node has said nothing; one that is connected has nothing to say until it is asked. `None`: there is no such
    /// node.
    #[must_use]
    pub fn silence(&self, node: &str, asked: Option<Instant>, now: Instant) -> Option<Duration> {
        let progress = self.nodes.get(node)?;
        let since = match progress.session {
            Some(_) => progress.heard.max(asked.unwrap_or(now)),
            None => progress.heard,
        };
        Some(now.saturating_duration_since(since))
    }

    /// Up to which revision a node has applied everything.
    #[must_use]
    pub fn applied_to(&self, node: &str) -> u64 {
        self.nodes.get(node).map_or(0, Progress::applied_to)
    }

    /// Nodes that may still act on what was removed at `revision`; asked for since `asked`.
    #[must_use]
    pub fn blocking(&self, revision: u64, asked: Instant, now: Instant) -> Vec<Arc<str>> {
        let blocking = self.nodes.iter().filter(|(_, progress)| progress.blocks(revision, asked, now));
        blocking.map(|(node, _)| Arc::clone(node)).collect()
    }

    /// Every node, and how far it is.
    #[must_use]
    pub fn followers(&self, now: Instant) -> Vec<Follower> {
        let followers = self.nodes.iter().map(|(node, progress)| Follower {
            node: node.to_string(),
            connected: progress.session.is_some(),
            received: progress.received,
            applied: progress.applied_to(),
            retry_low_watermark: progress.retry,
            heard_seconds: now.saturating_duration_since(progress.heard).as_secs(),
        });
        followers.collect()
    }

    /// Sessions that are open, and the lowest revision that all of them have applied.
    #[must_use]
    pub fn summary(&self) -> (usize, u64) {
        let open: HashMap<&Arc<str>, u64> = self
            .nodes
            .iter()
            .filter(|(_, progress)| progress.session.is_some())
            .map(|(node, progress)| (node, progress.applied_to()))
            .collect();
        (open.len(), open.values().copied().min().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(received: u64, attempted: u64, retry: u64) -> SessionEvent {
        SessionEvent::Acked(Ack { received, attempted, retry_low_watermark: retry, ..Ack::default() })
    }

    #[test]
    fn every_node_has_to_apply() {
        let now = Instant::now();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut acks = Acks::default();
        acks.expect(&a, now);
        acks.expect(&b, now);
        acks.event(&a, 1, &SessionEvent::Opened { revision: 0, newest: 0 }, now);
        acks.event(&a, 1, &ack(7, 7, 0), now);
        assert_eq!(acks.blocking(5, now, now), [Arc::clone(&b)], "one that was never heard may hold anything");
        acks.event(&b, 2, &SessionEvent::Opened { revision: 0, newest: 0 }, now);
        acks.event(&b, 2, &ack(7, 7, 3), now);
        assert_eq!(acks.blocking(5, now, now), [Arc::clone(&b)], "it retries something older");
        acks.event(&b, 2, &ack(7, 7, 6), now);
        assert_eq!(acks.blocking(5, now, now), Vec::<Arc<str>>::new());
        acks.event(&b, 1, &SessionEvent::Closed, now);
        assert_eq!(acks.summary().0, 2, "the late end of an old session changes nothing");
    }

    #[test]
    fn a_silent_node_is_waited_for_five_minutes_and_counts_again_when_it_is_back() {
        let start = Instant::now();
        let node: Arc<str> = "a".into();
        let mut acks = Acks::default();
        acks.expect(&node, start);
        acks.event(&node, 1, &SessionEvent::Opened { revision: 4, newest: 4 }, start);
        let later = start + PATIENCE * 3;
        assert_eq!(acks.blocking(5, later, later).len(), 1, "connected and idle: it is asked first");
        assert_eq!(acks.blocking(5, later, later + PATIENCE).len(), 0);
        acks.event(&node, 1, &SessionEvent::Closed, later);
        assert_eq!(acks.blocking(5, start, later).len(), 1);
        assert_eq!(acks.blocking(5, later + PATIENCE, later + PATIENCE).len(), 0);
        acks.event(&node, 2, &SessionEvent::Opened { revision: 4, newest: 4 }, later + PATIENCE);
        assert_eq!(acks.blocking(5, later + PATIENCE, later + PATIENCE).len(), 1);
        acks.forget(&node);
        assert_eq!(acks.blocking(9, later, later).len(), 0);
    }
}
