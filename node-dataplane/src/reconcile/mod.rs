//! Compares what is desired with what the kernel has, and writes the difference.

pub mod endpoints;
pub mod network;
pub mod ops;
pub mod peers;
pub mod policy;
pub mod queue;
pub mod services;
