//! `axoneme policy explain`: asked of the operator that leads, because it compiles what nodes enforce.

use anyhow::{Result, bail};
use axoneme_admin::explain::{Explanation, Flow};
use axoneme_admin::operator::Status;

use crate::cluster::{Cluster, Member, OPERATOR_BINARY, OPERATORS};

/// What becomes of a flow, and why.
///
/// # Errors
/// When no operator leads, or the flow names what there is not.
pub async fn explain(cluster: &Cluster, flow: &Flow) -> Result<Explanation> {
    let leader = leader(cluster).await?;
    let Flow { from, to, port } = flow;
    let question = [OPERATOR_BINARY, "explain", "--from", from, "--to", to, "--port", port, "-o", "json"];
    cluster.ask(&leader, &question).await
}

/// The pod of the operator that leads.
async fn leader(cluster: &Cluster) -> Result<String> {
    let operators = cluster.members(OPERATORS).await?;
    let statuses = cluster.ask_all::<Status>(operators, &[OPERATOR_BINARY, "status", "-o", "json"]).await;
    let leads = |(_, status): &&(Member, Result<Status>)| status.as_ref().is_ok_and(|status| status.leads);
    match statuses.iter().find(leads) {
        Some((leader, _)) => Ok(leader.pod.clone()),
        None => bail!("no operator in namespace {} leads; \"axoneme status\" says why", cluster.namespace),
    }
}
