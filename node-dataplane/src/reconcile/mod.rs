//! Compares what is desired with what the kernel has, and writes the difference.
//!
//! A commit marks keys of the kernel; a [round](engine::Engine::round) asks for each what it should be now and writes that if it
//! is not so. Whatever fails is tried again with backoff, beside everything else. At a start nothing is known but what the
//! kernel holds: it is adopted, compared, and only differences are written; entries that nobody asks for are removed when the
//! operator has said that its inputs are complete.
//!
//! Order: devices, addresses, policies, services, endpoints; removals of policies and addresses come last.

mod adopt;
pub mod barrier;
pub mod endpoints;
pub mod engine;
pub mod grant;
pub mod metrics;
pub mod network;
pub mod ops;
pub mod peers;
pub mod policy;
pub mod queue;
pub mod services;
pub mod state;
pub mod status;
pub mod task;
mod view;

pub use engine::{Engine, Kernel};
pub use state::State;
pub use status::Status;
pub use task::Task;
