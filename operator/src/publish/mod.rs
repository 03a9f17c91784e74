//! From rows to nodes: revisions, deltas, and the stream that carries them.

pub mod acks;
mod digest;
pub mod join;
pub mod journal;
pub mod server;
pub mod session;
pub mod tls;
