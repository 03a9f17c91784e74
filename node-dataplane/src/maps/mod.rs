//! The kernel's maps, typed: [`kernel`] by pin, [`memory`] for tests, [`faulty`] around either.
//!
//! Keys and values are the mirrors of `axoneme-bpf`; what is done with a map is
//! [`MapOps`](crate::reconcile::ops::MapOps).

pub mod bpf;
pub mod faulty;
pub mod kernel;
pub mod memory;
pub mod per_cpu;
pub mod pinned;
pub mod pressure;

pub use faulty::Faulty;
pub use kernel::{KernelMap, OpenError};
pub use memory::MemoryMap;
pub use pinned::Pinned;
