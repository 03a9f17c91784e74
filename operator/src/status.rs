//! What people see: CiliumEndpoints, and events.

mod board;
mod endpoint;
mod notice;
mod problems;
pub mod unimplemented;
mod validity;
mod writer;

#[cfg(test)]
mod tests;

pub use board::{Board, Feeds, report};
pub use notice::{Notice, NoticeMetrics, Notices, Reference, Regarding, publish_notices};
pub use unimplemented::report_unimplemented;
pub use writer::{KubernetesWriter, StatusMetrics};
