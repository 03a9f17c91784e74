//! Collects the chunks of a delta until it is complete. Dropped with the stream, it leaves no trace.

use axoneme_proto::PROTOCOL_BUCKETS;
use axoneme_proto::nodesync::Delta;

use crate::desired::Change;

/// Why a delta cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeltaError {
    /// It does not continue what is held.
    #[error("a delta continues revision {found}, but {held} is held")]
    Gap {
        /// What is held.
        held: u64,
        /// What the delta starts from.
        found: u64,
    },
    /// A chunk does not belong to the delta before it.
    #[error("a chunk of {found:?} follows one of {first:?}")]
    Chunk {
        /// From and to of the first chunk.
        first: (u64, u64),
        /// From and to of this one.
        found: (u64, u64),
    },
    /// A chunk is missing, or came twice.
    #[error("chunk {found} of a delta where chunk {expected} belongs")]
    Number {
        /// Which was to come.
        expected: u32,
        /// Which one came.
        found: u32,
    },
}

/// A delta that is complete.
#[derive(Debug)]
pub struct Staged {
    /// What it changes.
    pub change: Change,
    /// A barrier waits for it.
    pub ack_at_once: bool,
}

/// Chunks so far.
#[derive(Debug, Default)]
pub struct Staging {
    change: Option<Change>,
    ack_at_once: bool,
    /// The operator says which chunk is which.
    numbered: bool,
    /// The chunk that is to come.
    next: u32,
}

impl Staging {
    /// For a session in this version of the protocol.
    #[must_use]
    pub fn new(protocol: u32) -> Self {
        Self { numbered: protocol >= PROTOCOL_BUCKETS, ..Self::default() }
    }

    /// Adds a chunk; the whole delta, if that was its last one. `held`: the revision it must continue.
    ///
    /// # Errors
    /// When it does not fit; then the stream is to be ended.
    pub fn add(&mut self, epoch: &[u8], held: u64, delta: Delta) -> Result<Option<Staged>, DeltaError> {
        let found = (delta.from_revision, delta.to_revision);
        let change = match &mut self.change {
            Some(change) => {
                let first = (change.from_revision, change.to_revision);
                if first != found {
                    return Err(DeltaError::Chunk { first, found });
                }
                change
            }
            None => {
                if held != delta.from_revision {
                    return Err(DeltaError::Gap { held, found: delta.from_revision });
                }
                self.change.insert(Change {
                    epoch: epoch.to_vec(),
                    from_revision: delta.from_revision,
                    to_revision: delta.to_revision,
                    ..Change::default()
                })
            }
        };
        if self.numbered && delta.chunk != self.next {
            return Err(DeltaError::Number { expected: self.next, found: delta.chunk });
        }
        self.next += 1;
        change.snapshots.extend(delta.snapshots);
        change.buckets.extend(delta.buckets);
        change.inputs.extend(delta.inputs);
        change.upserts.extend(delta.upserts);
        change.removals.extend(delta.removals);
        change.dropped_scopes.extend(delta.dropped_scopes);
        change.inputs_complete |= delta.inputs_complete;
        self.ack_at_once |= delta.ack_at_once;
        if !delta.last {
            return Ok(None);
        }
        self.next = 0;
        let ack_at_once = std::mem::take(&mut self.ack_at_once);
        Ok(self.change.take().map(|change| Staged { change, ack_at_once }))
    }
}
