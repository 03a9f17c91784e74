//! Cuts a delta into chunks.

use std::collections::VecDeque;

use axoneme_proto::nodesync::{Delta, Row, RowKey};
use prost::Message;

/// No chunk is larger, unless a single row is.
pub const CHUNK: usize = 512 << 10;

/// Room for a chunk's own fields and each entry's tag and length.
const OVERHEAD: usize = 64;
const PER_ENTRY: usize = 8;

/// Chunks of one delta and their size in bytes. All have the head's revisions; snapshots are named in the first one, scopes are
/// dropped by the last one, which commits.
pub fn split(head: Delta, upserts: Vec<Row>, removals: Vec<RowKey>, dropped: Vec<String>) -> (VecDeque<Delta>, usize) {
    let template = Delta { snapshots: Vec::new(), ..head.clone() };
    let mut splitter =
        Splitter { size: head.encoded_len() + OVERHEAD, current: head, template, done: VecDeque::new(), total: 0 };
    for row in upserts {
        splitter.room(row.encoded_len());
        splitter.current.upserts.push(row);
    }
    for key in removals {
        splitter.room(key.encoded_len());
        splitter.current.removals.push(key);
    }
    for scope in dropped {
        splitter.room(scope.len());
        splitter.current.dropped_scopes.push(scope);
    }
    splitter.current.last = true;
    splitter.finish();
    (splitter.done, splitter.total)
}

struct Splitter {
    template: Delta,
    current: Delta,
    size: usize,
    done: VecDeque<Delta>,
    total: usize,
}

impl Splitter {
    fn room(&mut self, bytes: usize) {
        let used = self.current.upserts.len() + self.current.removals.len() + self.current.dropped_scopes.len();
        if used > 0 && self.size + bytes + PER_ENTRY > CHUNK {
            self.finish();
        }
        self.size += bytes + PER_ENTRY;
    }

    fn finish(&mut self) {
        self.total += self.size;
        self.size = OVERHEAD;
        self.done.push_back(std::mem::replace(&mut self.current, self.template.clone()));
    }
}
