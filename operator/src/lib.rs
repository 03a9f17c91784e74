//! The operator: understands Kubernetes, compiles it to rows, decides identities and addresses, and serves nodes.
//!
//! The way of a change: `watch` makes [`object`]s and [`engine::Input`]s of Kubernetes events; the [`engine`] task owns
//! everything from there: the index joins inputs and names dirty keys, [`compile`] makes rows of them, `publish` gives rows
//! revisions and nodes their deltas. What must be decided leaves the engine as [`engine::Demands`], what must be reported as
//! [`engine::Report`]s. [`marks`] tells Kubernetes which nodes have a network; [`uninstall`] is the end.

pub mod app;
pub mod compile;
pub mod config;
pub mod diff;
pub mod engine;
pub mod explain;
pub mod identity;
pub mod index;
pub mod ipam;
pub mod leader;
pub mod lint;
pub mod marks;
pub mod memory;
pub mod object;
pub mod publish;
pub mod status;
pub mod table;
pub mod telemetry;
pub mod uninstall;
pub mod watch;
