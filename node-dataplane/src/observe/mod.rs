//! What the node observes and tells.

pub mod counters;
pub mod outbox;
pub mod pressure;
pub mod reason;
pub mod reporter;
pub mod verdicts;
