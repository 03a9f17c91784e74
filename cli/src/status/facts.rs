//! What is known, before it is judged.

use anyhow::Result;
use axoneme_admin::{node, operator};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;

use crate::cluster::{Cluster, DAEMONS, Member, NODE_BINARY, OPERATOR_BINARY, OPERATORS};

/// Name of the DaemonSet.
const DAEMON_SET: &str = "axoneme";
/// Name of the Lease.
const LEASE: &str = "axoneme-operator";

/// What a member says of itself, or why it does not.
pub(super) type Answer<T> = (Member, Result<T, String>);

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Where it was looked.
    pub(super) namespace: String,
    /// How many nodes shall have a daemon; None: there is no DaemonSet.
    pub(super) wanted: Option<i32>,
    /// Pods of the DaemonSet.
    pub(super) daemons: Vec<Answer<node::Status>>,
    /// Pods of the Deployment.
    pub(super) operators: Vec<Answer<operator::Status>>,
    /// Who holds the Lease, by the Lease.
    pub(super) holder: Option<String>,
}

pub(super) async fn gather(cluster: &Cluster) -> Result<Facts> {
    let set = cluster.own::<DaemonSet>().get_opt(DAEMON_SET).await?;
    let lease = cluster.own::<Lease>().get_opt(LEASE).await?;
    let wanted = set.map(|set| set.status.map_or(0, |status| status.desired_number_scheduled));
    let daemons = cluster.members(DAEMONS).await?;
    let operators = cluster.members(OPERATORS).await?;
    let question = |binary| [binary, "status", "-o", "json"];
    let (of_daemons, of_operators) = (question(NODE_BINARY), question(OPERATOR_BINARY));
    let (daemons, operators) =
        futures::join!(cluster.ask_all(daemons, &of_daemons), cluster.ask_all(operators, &of_operators));
    Ok(Facts {
        namespace: cluster.namespace.clone(),
        wanted,
        daemons: daemons.into_iter().map(words).collect(),
        operators: operators.into_iter().map(words).collect(),
        holder: lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()),
    })
}

fn words<T>((member, answer): (Member, Result<T>)) -> Answer<T> {
    (member, answer.map_err(|error| crate::error::line(&error)))
}
