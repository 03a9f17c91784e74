//! The node daemon: takes compiled desired state from the operator and programs this node's kernel with it.
//!
//! `sync` speaks NodeSync and commits deltas to `desired`; `reconcile` compares what is desired with what the kernel has, map
//! by map; `maps`, `programs`, `link` and `endpoint` touch the kernel. `app` wires them.

pub mod app;
pub mod check;
pub mod config;
pub mod desired;
pub mod endpoint;
pub mod link;
pub mod maps;
mod netlink;
pub mod nftables;
pub mod observe;
pub mod probe;
pub mod programs;
pub mod question;
pub mod reconcile;
pub mod sync;
pub mod telemetry;
