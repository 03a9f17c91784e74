//! `axoneme node|endpoint|identity|policy|service list`: what is desired next to what nodes' kernels have.
//!
//! Each daemon compares what the operator told it with its maps; what the API server has and a daemon does not know is added
//! here. Rows name their node, and can be narrowed by it.

mod endpoint;
mod identity;
mod node;
mod policy;
mod service;

use anyhow::{Result, bail};
use axoneme_admin::node::Sync;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, DAEMONS, NODE_BINARY};

pub use endpoint::endpoints;
pub use identity::identities;
pub use node::nodes;
pub use policy::policies;
pub use service::services;

/// Which rows are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only what these nodes have
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Only what is not as desired
    #[arg(long)]
    pub differing: bool,
    /// Only what begins with this: NAMESPACE, NAMESPACE/NAME, an identity's number or a node's name
    pub select: Option<String>,
}

impl Filter {
    fn wants(&self, sync: Sync) -> bool {
        !self.differing || !sync.is_good()
    }

    /// Whether something in a namespace is selected.
    pub fn selects(&self, namespace: &str, name: &str) -> bool {
        match self.select.as_deref() {
            None => true,
            Some(select) => match select.split_once('/') {
                None => namespace == select,
                Some((of, prefix)) => namespace == of && name.starts_with(prefix),
            },
        }
    }

    /// Whether something with a number or name of its own is selected.
    pub fn selects_one(&self, name: &str) -> bool {
        self.select.as_deref().is_none_or(|select| select == name)
    }
}

/// What a list shows, and what it could not find out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Nodes that did not answer, and why.
    pub silent: Vec<String>,
    /// Its rows as a table.
    #[serde(skip)]
    pub table: String,
}

/// A row with the node that it was seen on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct On<T> {
    /// Name of the node.
    pub seen_on: String,
    /// What was seen.
    #[serde(flatten)]
    pub item: T,
}

/// What all daemons that are wanted say about a subject, and those that say nothing.
pub async fn ask<T: DeserializeOwned>(
    cluster: &Cluster,
    filter: &Filter,
    subject: &str,
) -> Result<(Vec<(String, Vec<T>)>, Vec<String>)> {
    let mut members = cluster.members(DAEMONS).await?;
    if members.is_empty() {
        bail!(
            "no daemon runs in namespace {}: say where with --namespace; \"axoneme status\" says more",
            cluster.namespace
        );
    }
    if !filter.nodes.is_empty() {
        members.retain(|member| filter.nodes.contains(&member.node));
        if members.is_empty() {
            bail!("no daemon runs on {}; \"axoneme status\" names those that have one", filter.nodes.join(" or "));
        }
    }
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    for (member, answer) in cluster.ask_all(members, &[NODE_BINARY, subject, "list", "-o", "json"]).await {
        match answer {
            Ok(rows) => told.push((member.node, rows)),
            Err(error) => silent.push(format!("{}: {}", member.node, crate::error::line(&error))),
        }
    }
    Ok((told, silent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_selected_by_namespace_and_name() {
        let filter = |select: &str| Filter { select: Some(select.into()), ..Filter::default() };
        assert!(Filter::default().selects("a", "b"));
        assert!(filter("shop").selects("shop", "web") && !filter("shop").selects("shop2", "web"));
        assert!(filter("shop/we").selects("shop", "web") && !filter("shop/db").selects("shop", "web"));
        assert!(filter("12").selects_one("12") && !filter("1").selects_one("12"));
        assert!(!Filter { differing: true, ..Filter::default() }.wants(Sync::AsDesired));
    }
}
