//! From rows to nodes: revisions, deltas, and the stream that carries them.

pub mod join;
pub mod tls;
