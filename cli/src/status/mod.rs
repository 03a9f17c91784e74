//! `axoneme status`: how the network of a cluster is, what is wrong, and what to do about it.

mod facts;
mod judge;
mod render;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use anyhow::Result;
use axoneme_admin::check::Level;
use axoneme_admin::{node, operator};
use serde::Serialize;

use crate::cluster::Cluster;

/// Between two looks while it is waited for.
const PAUSE: Duration = Duration::from_secs(2);

/// How the network is.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Nothing is wrong that keeps it from its work.
    pub healthy: bool,
    /// The pod that leads.
    pub leader: Option<String>,
    /// All operators.
    pub operators: Vec<OperatorState>,
    /// All nodes that a daemon is for.
    pub nodes: Vec<NodeState>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// An operator.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorState {
    /// Name of its pod.
    pub pod: String,
    /// Name of its node.
    pub node: String,
    /// Its pod is ready.
    pub ready: bool,
    /// How often it was started anew.
    pub restarts: i32,
    /// What it runs.
    pub image: String,
    /// What it says of itself.
    pub status: Option<operator::Status>,
    /// Why it says nothing.
    pub error: Option<String>,
}

/// A node.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its name.
    pub node: String,
    /// Name of the daemon's pod; None: there is none.
    pub pod: Option<String>,
    /// The daemon's pod is ready.
    pub ready: bool,
    /// How often it was started anew.
    pub restarts: i32,
    /// What it runs.
    pub image: String,
    /// What the daemon says of itself.
    pub status: Option<node::Status>,
    /// Why it says nothing.
    pub error: Option<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How it counts.
    pub level: Level,
    /// What is wrong, and where.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// How the network is now.
///
/// # Errors
/// When the API server does not tell.
pub async fn overview(cluster: &Cluster) -> Result<Overview> {
    let facts = facts::gather(cluster).await?;
    Ok(judge::judge(facts))
}

/// How the network is, as soon as it is healthy or `patience` is over.
///
/// # Errors
/// When the API server does not tell at the end.
pub async fn wait(cluster: &Cluster, patience: Duration) -> Result<Overview> {
    let deadline = Instant::now() + patience;
    loop {
        let now = overview(cluster).await;
        let left = deadline.saturating_duration_since(Instant::now());
        if now.as_ref().is_ok_and(|now| now.healthy) || left.is_zero() {
            return now;
        }
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

pub use render::render;
