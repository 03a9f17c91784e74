//! The barrier: what the operator said of who knows the node's pods, and the ADDs that wait for it.

use std::collections::HashMap;

use axoneme_proto::nodesync::ToldPod;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::desired::pods::Told;

/// What is known of one pod.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Of its row, which everybody who has to know has by now.
    revision: u64,
    /// Everybody has the row as it was when the session began.
    at_start: bool,
    skipped: u32,
}

/// An ADD that waits.
#[derive(Debug)]
pub struct Waiter {
    /// Key of the endpoint's row.
    pub pod_uid: String,
    /// The row's revision that was granted.
    pub revision: u64,
    /// Until when.
    pub deadline: Instant,
    /// Who waits.
    pub reply: oneshot::Sender<Told>,
}

/// What this session's operator said, or the last one's while there is none.
#[derive(Debug, Default)]
pub struct Barrier {
    known: HashMap<Box<str>, Known>,
    /// Where the session's first delta led to: the rows as of its start. None before it.
    start: Option<u64>,
    waiters: Vec<Waiter>,
}

impl Barrier {
    /// A session begins; it says of every pod anew.
    pub fn connected(&mut self) {
        self.known.clear();
        self.start = None;
    }

    /// A delta was committed.
    pub fn committed(&mut self, to_revision: u64) {
        self.start.get_or_insert(to_revision);
    }

    /// A pod's row is gone.
    pub fn forget(&mut self, pod_uid: &str) {
        self.known.remove(pod_uid);
    }

    /// What the operator says. The rows themselves may come later.
    pub fn told(&mut self, pods: Vec<ToldPod>) {
        for pod in pods {
            let known = self.known.entry(pod.pod_uid.into()).or_default();
            known.revision = known.revision.max(pod.revision);
            known.at_start |= pod.revision == 0;
            known.skipped = pod.skipped;
        }
    }

    /// Somebody waits; see [`Barrier::answer`].
    pub fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    /// Answers all who need not wait any longer.
    pub fn answer(&mut self, connected: bool, now: Instant) {
        for waiter in std::mem::take(&mut self.waiters) {
            let told = match self.skipped(&waiter) {
                Some(skipped) => Told::Told { skipped },
                None if !connected => Told::Disconnected,
                None if waiter.deadline <= now => Told::Timeout,
                None if waiter.reply.is_closed() => continue,
                None => {
                    self.waiters.push(waiter);
                    continue;
                }
            };
            // Nobody waits any more: just as well.
            let _ = waiter.reply.send(told);
        }
    }

    /// When somebody has waited for long enough.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).min()
    }

    /// How many nodes were not waited for, when all others know what this waiter waits for.
    fn skipped(&self, waiter: &Waiter) -> Option<u32> {
        let known = self.known.get(waiter.pod_uid.as_str())?;
        let at_start = known.at_start && self.start.is_none_or(|start| waiter.revision <= start);
        (at_start || known.revision >= waiter.revision.max(1)).then_some(known.skipped)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wait(barrier: &mut Barrier, revision: u64) -> oneshot::Receiver<Told> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_secs(1);
        barrier.wait(Waiter { pod_uid: "a".into(), revision, deadline, reply });
        answer
    }

    fn told(revision: u64, skipped: u32) -> Vec<ToldPod> {
        vec![ToldPod { pod_uid: "a".into(), revision, skipped }]
    }

    #[test]
    fn who_waits_is_answered_by_a_revision_that_is_not_older() {
        let mut barrier = Barrier::default();
        barrier.connected();
        let now = Instant::now();
        let mut answer = wait(&mut barrier, 7);
        barrier.told(told(6, 0));
        barrier.answer(true, now);
        assert!(answer.try_recv().is_err());
        barrier.told(told(8, 2));
        barrier.answer(true, now);
        assert_eq!(answer.try_recv(), Ok(Told::Told { skipped: 2 }));
    }

    #[test]
    fn zero_is_the_row_as_the_session_found_it() {
        let mut barrier = Barrier::default();
        barrier.connected();
        barrier.told(told(0, 0));
        barrier.committed(9);
        barrier.committed(12);
        let (mut old, mut new) = (wait(&mut barrier, 9), wait(&mut barrier, 10));
        barrier.answer(true, Instant::now());
        assert_eq!(old.try_recv(), Ok(Told::Told { skipped: 0 }));
        assert!(new.try_recv().is_err());
        // Another session, which has not said anything yet.
        barrier.connected();
        let mut again = wait(&mut barrier, 9);
        barrier.answer(true, Instant::now());
        assert!(again.try_recv().is_err());
    }

    #[test]
    fn nobody_waits_beyond_the_deadline_or_for_an_operator_that_is_away() {
        let mut barrier = Barrier::default();
        let mut late = wait(&mut barrier, 7);
        assert!(barrier.next_due().is_some());
        barrier.answer(true, Instant::now() + Duration::from_secs(2));
        assert_eq!(late.try_recv(), Ok(Told::Timeout));
        let mut alone = wait(&mut barrier, 7);
        barrier.answer(false, Instant::now());
        assert_eq!(alone.try_recv(), Ok(Told::Disconnected));
        assert_eq!(barrier.next_due(), None);
        // What the last operator said still holds when it is gone.
        barrier.told(told(7, 0));
        let mut known = wait(&mut barrier, 7);
        barrier.answer(false, Instant::now());
        assert_eq!(known.try_recv(), Ok(Told::Told { skipped: 0 }));
        barrier.forget("a");
        let mut forgotten = wait(&mut barrier, 7);
        barrier.answer(false, Instant::now());
        assert_eq!(forgotten.try_recv(), Ok(Told::Disconnected));
    }
}
