//! The CNI server, asked by the plugin's binary, with a desired state that the tests set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

#[path = "../common/mod.rs"]
mod common;
mod enforced;
mod faults;
mod node;
mod verbs;
