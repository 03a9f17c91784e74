//! What people see: CiliumEndpoints, and events.

mod board;
mod endpoint;
mod notice;
mod problems;
mod writer;

#[cfg(test)]
mod tests;

pub use board::{Board, Feeds, report};
pub use notice::{Notice, NoticeMetrics, Notices, Regarding, publish_notices};
pub use writer::{KubernetesEndpoints, StatusMetrics};
