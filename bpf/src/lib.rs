//! The kernel half of a node: BPF programs in C (`progs/`, `lib/`), built into this crate, and the Rust mirror of every map.
//!
//! Each module mirrors the header of the same name; `tests/layout.rs` compares both. Semantics stand in the headers.

pub mod address;
pub mod affinity;
pub mod bandwidth;
pub mod config;
pub mod conntrack;
pub mod endpoint;
pub mod event;
pub mod fragment;
pub mod identity;
pub mod inet;
pub mod maps;
pub mod metrics;
pub mod nat;
mod numbers;
pub mod objects;
pub mod policy;
pub mod programs;
pub mod service;
pub mod sock;
pub mod uplink;
