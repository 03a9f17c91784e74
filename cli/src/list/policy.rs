use anyhow::Result;
use axoneme_admin::node::Policy;
use axoneme_admin::show::{self, POLICY_COLUMNS};
use axoneme_admin::table::Table;

use super::{Filter, List, On, ask};
use crate::cluster::Cluster;

/// What is enforced on pods, by their identity and node.
///
/// # Errors
/// When the API server does not tell.
pub async fn policies(cluster: &Cluster, filter: &Filter, colours: bool) -> Result<List<On<Policy>>> {
    let (told, silent) = ask::<Policy>(cluster, filter, "policy").await?;
    let rows =
        told.into_iter().flat_map(|(node, rows)| rows.into_iter().map(move |item| On { seen_on: node.clone(), item }));
    let mut items: Vec<On<Policy>> =
        rows.filter(|row| filter.wants(row.item.sync) && selected(filter, &row.item)).collect();
    items.sort_by(|one, other| (one.item.identity, &one.seen_on).cmp(&(other.item.identity, &other.seen_on)));
    let mut table = Table::new(&POLICY_COLUMNS);
    for row in &items {
        show::policies(&mut table, &row.seen_on, [&row.item]);
    }
    Ok(List { items, silent, table: table.render(colours) })
}

/// By the subject's number, or by a policy's namespace and name.
fn selected(filter: &Filter, policy: &Policy) -> bool {
    let named = || {
        policy.policies.iter().filter_map(|name| Some(name.split_once(':')?.1)).any(|name| match name.split_once('/') {
            Some((namespace, name)) => filter.selects(namespace, name),
            None => filter.selects_one(name),
        })
    };
    filter.selects_one(&policy.identity.to_string()) || named()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_selected_by_subject_or_name() {
        let policy = Policy { identity: 300, policies: vec!["networkpolicy:shop/deny".into()], ..Policy::default() };
        let selects = |select: &str| selected(&Filter { select: Some(select.into()), ..Filter::default() }, &policy);
        assert!(selects("300") && selects("shop") && selects("shop/deny"));
        assert!(!selects("301") && !selects("other") && !selects("shop/allow"));
        assert!(selected(&Filter::default(), &Policy::default()));
        let clusterwide = Policy { policies: vec!["ciliumclusterwidenetworkpolicy:deny".into()], ..Policy::default() };
        assert!(selected(&Filter { select: Some("deny".into()), ..Filter::default() }, &clusterwide));
    }
}
