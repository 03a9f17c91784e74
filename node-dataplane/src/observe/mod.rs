//! What the node observes and tells.

pub mod outbox;
