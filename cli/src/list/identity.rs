use std::collections::BTreeMap;

use anyhow::Result;
use axoneme_admin::node::Identity;
use axoneme_admin::show::{self, IDENTITY_COLUMNS};
use axoneme_admin::table::Table;
use axoneme_crds::v2::CiliumIdentity;

use super::{Filter, List, On, ask};
use crate::cluster::Cluster;

/// Identities that nodes know, with their labels.
///
/// # Errors
/// When the API server does not tell.
pub async fn identities(cluster: &Cluster, filter: &Filter, colours: bool) -> Result<List<On<Identity>>> {
    let objects = cluster.list::<CiliumIdentity>().await?;
    let labels: BTreeMap<u32, String> = objects.iter().filter_map(labels).collect();
    let (told, silent) = ask::<Identity>(cluster, filter, "identity").await?;
    let rows =
        told.into_iter().flat_map(|(node, rows)| rows.into_iter().map(move |item| On { seen_on: node.clone(), item }));
    let wanted = |row: &On<Identity>| filter.wants(row.item.sync) && filter.selects_one(&row.item.identity.to_string());
    let mut items: Vec<On<Identity>> = rows.filter(wanted).collect();
    items.sort_by(|one, other| (one.item.identity, &one.seen_on).cmp(&(other.item.identity, &other.seen_on)));
    let mut table = Table::new(&IDENTITY_COLUMNS);
    for row in &items {
        let labels_of = |identity: u32| {
            labels.get(&identity).cloned().or_else(|| reserved(identity).map(str::to_owned)).unwrap_or_default()
        };
        show::identities(&mut table, &row.seen_on, [&row.item], labels_of);
    }
    Ok(List { items, silent, table: table.render(colours) })
}

fn labels(object: &CiliumIdentity) -> Option<(u32, String)> {
    let number = object.metadata.name.as_ref()?.parse().ok()?;
    let labels = object.spec.security_labels.iter();
    // Those of the namespace and the cluster are the same for most, and long.
    let short = labels.filter(|(key, _)| !key.contains("io.cilium.k8s.namespace.labels"));
    Some((number, short.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")))
}

/// What the numbers below 256 that pods may have stand for.
fn reserved(identity: u32) -> Option<&'static str> {
    Some(match identity {
        1 => "reserved:host",
        2 => "reserved:world",
        3 => "reserved:unmanaged",
        4 => "reserved:health",
        5 => "reserved:init",
        6 => "reserved:remote-node",
        7 => "reserved:kube-apiserver",
        8 => "reserved:ingress",
        _ => return None,
    })
}
