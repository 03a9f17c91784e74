//! What an operator tells.

use serde::{Deserialize, Serialize};

/// What can be asked of an operator, and how the paths are called.
pub mod subject {
    /// [`Status`](super::Status)
    pub const STATUS: &str = "status";
    /// An [`Explanation`](crate::explain::Explanation) of the [`Flow`](crate::explain::Flow) that the query names.
    pub const EXPLAIN: &str = "explain";
}

/// How an operator is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Name of its pod.
    pub pod: String,
    /// Name of its node.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Where it is in its life, in words.
    pub phase: String,
    /// It does its work: it leads, or would take over at any time.
    pub ready: bool,
    /// It serves nodes.
    pub leads: bool,
    /// All kinds of objects were listed: what it publishes is complete.
    pub inputs_complete: bool,
    /// Its journal, in hexadecimal digits.
    pub epoch: String,
    /// Its newest revision.
    pub revision: u64,
    /// Rows in its journal.
    pub rows: usize,
    /// Every node of the cluster, and how far it follows; told by the leader only.
    pub nodes: Vec<Follower>,
    /// How long it runs.
    pub uptime_seconds: u64,
}

/// A node as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Follower {
    /// Its name.
    pub node: String,
    /// It has a session.
    pub connected: bool,
    /// Committed by the node.
    pub received: u64,
    /// In its kernel, all of it.
    pub applied: u64,
    /// The lowest revision that it tries again; 0: none.
    pub retry_low_watermark: u64,
    /// When it said something last.
    pub heard_seconds: u64,
}
