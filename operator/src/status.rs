//! What people see: events and CiliumEndpoints.

mod notice;

pub use notice::{Notice, NoticeMetrics, Notices, Regarding, publish_notices};
