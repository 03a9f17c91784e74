//! What programs tell of single packets: read from the ring `ax_events` and kept for whoever asks.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axoneme_bpf::event::{Event, EventKind};
use axoneme_bpf::maps::EVENTS;
use aya::maps::{Map, MapData, MapError, RingBuf};
use tokio::io::unix::AsyncFd;

use crate::reconcile::policy::names::{Names, Origin};

/// So many of those that were allowed, and of the rest, are kept.
const KEPT: usize = 1024;
/// How long events gather before they are read: the daemon wakes up so often at most.
const GATHER: Duration = Duration::from_millis(20);

/// Something that programs told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Counts what was read.
    pub number: u64,
    /// When it was read.
    pub time: SystemTime,
    /// What was told.
    pub event: Event,
    /// What its cookie meant then; none: it was not known yet, or means nothing.
    pub origin: Option<Arc<Origin>>,
}

/// The newest of what programs told. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    read: u64,
    /// What is allowed may be much, and shall not displace the rest.
    allowed: VecDeque<Told>,
    others: VecDeque<Told>,
}

impl Verdicts {
    /// All that is kept, oldest first.
    #[must_use]
    pub fn newest(&self) -> Vec<Told> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Told> = kept.allowed.iter().chain(&kept.others).cloned().collect();
        all.sort_unstable_by_key(|told| told.number);
        all
    }

    fn keep(&self, event: Event, time: SystemTime, origin: Option<Arc<Origin>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.read += 1;
        let told = Told { number: kept.read, time, event, origin };
        let list = if event.kind == EventKind::ALLOW { &mut kept.allowed } else { &mut kept.others };
        if list.len() == KEPT {
            list.pop_front();
        }
        list.push_back(told);
    }
}

/// The ring that programs write to. It has one reader.
#[allow(missing_debug_implementations, reason = "holds a foreign type")]
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Ring {
    /// Opens the ring that is pinned in `directory`.
    ///
    /// # Errors
    /// When there is none, or it cannot be mapped.
    pub fn open(directory: &Path) -> Result<Self, RingError> {
        let data = MapData::from_pin(directory.join(EVENTS))?;
        let ring = RingBuf::try_from(Map::RingBuf(data))?;
        // SAFETY: a ring owns its map's file descriptor, which is the same and open as long as it lives.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(io::Error::from)?;
        Ok(Self { ring })
    }

    /// Keeps what programs tell, until the task is dropped.
    pub async fn follow(mut self, verdicts: Verdicts, names: Names) {
        loop {
            let mut ready = match self.ring.readable_mut().await {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "what programs tell of packets is not read any more");
                    return;
                }
            };
            // Before it is read: what comes meanwhile wakes the task again.
            ready.clear_ready();
            let (ring, time) = (ready.get_inner_mut(), SystemTime::now());
            while let Some(record) = ring.next() {
                // Shorter ones come from programs of another build, for a moment.
                if let Some(event) = Event::read(&record) {
                    verdicts.keep(event, time, names.get(event.cookie));
                }
            }
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Why the ring cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// It is not there, or no ring.
    #[error("map {EVENTS}")]
    Map(#[from] MapError),
    /// It cannot be waited for.
    #[error("map {EVENTS}")]
    Wait(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_does_not_displace_what_is_not() {
        let verdicts = Verdicts::default();
        let keep = |kind, cookie| {
            verdicts.keep(Event { kind, cookie, ..Event::default() }, SystemTime::UNIX_EPOCH, None);
        };
        keep(EventKind::DROP, 1);
        (0..KEPT as u32 + 5).for_each(|cookie| keep(EventKind::ALLOW, cookie));
        keep(EventKind::AUDIT, 2);
        let newest = verdicts.newest();
        assert_eq!(newest.len(), KEPT + 2);
        let ends = [newest.first(), newest.get(1), newest.last()].map(|told| told.unwrap().event);
        assert_eq!(ends.map(|event| event.kind), [EventKind::DROP, EventKind::ALLOW, EventKind::AUDIT]);
        assert_eq!(ends[1].cookie, 5, "the oldest went");
        assert!(newest.is_sorted_by_key(|told| told.number));
    }
}
