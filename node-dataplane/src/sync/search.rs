//! Looks for an operator on nodes where none was known.
//!
//! The stream tells of replicas as they come and go, so there is something to look for only when all have moved at once; the
//! kubelet brings their new addresses after a minute or more. Operators run on the host network, on one port, and only the one
//! that leads listens there: a node that accepts a connection has it, or somebody who will not prove to be it (the session that
//! follows verifies that). Nodes are asked in an order of each searcher's own, [`WIDTH`] at a time and no more than that a
//! second, which finds an operator among a hundred nodes in 8 s on average. However large the cluster, a node is asked
//! [`WIDTH`] times a second by all the others together, and an operator that has just begun is found by as many: none is
//! swamped. Among thousands of nodes the kubelet is faster than most searchers.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::backoff;
use super::dial::Dial;

/// Nodes that are asked at once.
const WIDTH: usize = 8;
/// How long one may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Replicas that are known have this long to take over, before others are looked for.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// From one step to the next, give or take a half.
const STEP: Duration = Duration::from_secs(1);
/// Steps take twice as long when all nodes were asked in vain, and so often at most.
const SLOWER: u32 = 2;

/// A search, from the loss of an operator to the next session.
#[derive(Debug)]
pub(super) struct Search {
    due: Instant,
    left: Vec<String>,
    sweeps: u32,
}

impl Search {
    /// One that begins soon.
    pub(super) fn soon() -> Self {
        let due = Instant::now() + backoff::between(PATIENCE.0, PATIENCE.1);
        Self { due, left: Vec::new(), sweeps: 0 }
    }

    /// When the next step is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether every node was asked.
    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Asks all of `nodes` from now on, in an order that nobody else has.
    pub(super) fn begin(&mut self, nodes: Vec<String>) {
        let random = RandomState::new();
        self.left = nodes;
        self.left.sort_by_cached_key(|node| random.hash_one(node));
    }

    /// Asks the next few; returns how many, and those that accept a connection.
    pub(super) async fn step(&mut self, dial: &dyn Dial) -> (usize, Vec<String>) {
        let asked = self.left.split_off(self.left.len().saturating_sub(WIDTH));
        let pause = STEP * (1 << self.sweeps);
        self.due = Instant::now() + backoff::between(pause / 2, pause * 3 / 2);
        if self.left.is_empty() {
            self.sweeps = (self.sweeps + 1).min(SLOWER);
        }
        let accepts = async |node: &String| matches!(timeout(ANSWER, dial.dial(node)).await, Ok(Ok(_)));
        let answers = join_all(asked.iter().map(accepts)).await;
        let count = asked.len();
        (count, asked.into_iter().zip(answers).filter_map(|(node, there)| there.then_some(node)).collect())
    }
}
