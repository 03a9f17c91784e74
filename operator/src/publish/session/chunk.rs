//! Cuts a delta into chunks, one when it is asked for: until then a row is its shared bytes.

use std::vec::IntoIter;

use axoneme_proto::nodesync::{Delta, Row, RowKey};
use bytes::Bytes;
use prost::Message;

/// No chunk is larger, unless a single row is; with what gRPC puts before it, it fits into one frame of HTTP/2. A node's stream keeps
/// a buffer for its largest one.
pub const CHUNK: usize = (16 << 10) - 64;

/// Room for a chunk's own fields and each entry's tag and length.
const OVERHEAD: usize = 64;
const PER_ENTRY: usize = 8;

/// A row with its revision.
#[derive(Debug)]
pub struct Upsert {
    /// The revision.
    pub revision: u64,
    /// See [`Row::encoded`].
    pub encoded: Bytes,
}

impl Upsert {
    /// At most: a revision has up to ten bytes.
    fn len(&self) -> usize {
        self.encoded.len() + 11
    }
}

impl From<Upsert> for Row {
    fn from(Upsert { revision, encoded }: Upsert) -> Self {
        Self { revision, encoded, ..Self::default() }
    }
}

/// What is left of a delta.
#[derive(Debug)]
pub struct Chunks {
    /// The next chunk, empty but for what the first one names.
    next: Option<Delta>,
    upserts: IntoIter<Upsert>,
    removals: IntoIter<RowKey>,
    dropped: IntoIter<String>,
}

impl Chunks {
    /// A delta with this `head`. All chunks have its revisions; snapshots and buckets are named in the first one, scopes are
    /// dropped by the last one, which commits. Also how many bytes it is.
    pub fn new(head: Delta, upserts: Vec<Upsert>, removals: Vec<RowKey>, dropped: Vec<String>) -> (Self, usize) {
        let rows: usize = upserts.iter().map(|row| row.len() + PER_ENTRY).sum();
        let keys: usize = removals.iter().map(|key| key.encoded_len() + PER_ENTRY).sum();
        let scopes: usize = dropped.iter().map(|scope| scope.len() + PER_ENTRY).sum();
        let bytes = head.encoded_len() + rows + keys + scopes;
        let (upserts, removals, dropped) = (upserts.into_iter(), removals.into_iter(), dropped.into_iter());
        (Self { next: Some(head), upserts, removals, dropped }, bytes)
    }
}

impl Iterator for Chunks {
    type Item = Delta;

    fn next(&mut self) -> Option<Delta> {
        let mut chunk = self.next.take()?;
        let mut room = CHUNK.saturating_sub(chunk.encoded_len() + OVERHEAD);
        let empty = chunk.snapshots.is_empty() && chunk.buckets.is_empty();
        fill(&mut self.upserts, &mut chunk.upserts, &mut room, empty, Upsert::len);
        let empty = empty && chunk.upserts.is_empty();
        fill(&mut self.removals, &mut chunk.removals, &mut room, empty, RowKey::encoded_len);
        let empty = empty && chunk.removals.is_empty();
        fill(&mut self.dropped, &mut chunk.dropped_scopes, &mut room, empty, String::len);
        chunk.last = self.upserts.len() + self.removals.len() + self.dropped.len() == 0;
        if !chunk.last {
            let Delta { from_revision, to_revision, inputs_complete, ack_at_once, chunk: number, .. } = chunk;
            let next = Delta { from_revision, to_revision, inputs_complete, ack_at_once, ..Delta::default() };
            self.next = Some(Delta { chunk: number + 1, ..next });
        }
        Some(chunk)
    }
}

/// Moves what there is room for; at least one entry if the chunk has nothing else, so that each chunk gets on.
fn fill<T, U: From<T>>(
    from: &mut IntoIter<T>,
    to: &mut Vec<U>,
    room: &mut usize,
    mut empty: bool,
    length: impl Fn(&T) -> usize,
) {
    while let Some(entry) = from.as_slice().first() {
        let bytes = length(entry) + PER_ENTRY;
        if bytes > *room && !empty {
            // Entries of the next kind must not overtake.
            *room = 0;
            return;
        }
        *room = room.saturating_sub(bytes);
        empty = false;
        to.extend(from.next().map(U::from));
    }
}
