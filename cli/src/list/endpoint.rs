use std::collections::BTreeSet;

use anyhow::Result;
use axoneme_admin::node::{Endpoint, EndpointState, Sync};
use axoneme_admin::show::{self, ENDPOINT_COLUMNS};
use axoneme_admin::table::Table;
use k8s_openapi::api::core::v1::Pod;

use super::{Filter, List, On, ask};
use crate::cluster::Cluster;

/// Pods: those that nodes know, and those that the API server binds to a node that does not know them.
///
/// # Errors
/// When the API server does not tell.
pub async fn endpoints(cluster: &Cluster, filter: &Filter, colours: bool) -> Result<List<On<Endpoint>>> {
    let pods = cluster.list::<Pod>().await?;
    let (told, silent) = ask::<Endpoint>(cluster, filter, "endpoint").await?;
    let answered: BTreeSet<String> = told.iter().map(|(node, _)| node.clone()).collect();
    let mut items: Vec<On<Endpoint>> = told
        .into_iter()
        .flat_map(|(node, rows)| rows.into_iter().map(move |item| On { seen_on: node.clone(), item }))
        .collect();
    add_unknown(&mut items, &pods, &answered);
    items.retain(|row| filter.wants(row.item.sync) && filter.selects(&row.item.namespace, &row.item.name));
    items.sort_by(|one, other| (&one.item.namespace, &one.item.name).cmp(&(&other.item.namespace, &other.item.name)));
    let mut table = Table::new(&ENDPOINT_COLUMNS);
    for row in &items {
        show::endpoints(&mut table, &row.seen_on, [&row.item]);
    }
    Ok(List { items, silent, table: table.render(colours) })
}

/// Adds the pods that run, need a network of ours, and are unknown to their node.
fn add_unknown(items: &mut Vec<On<Endpoint>>, pods: &[Pod], answered: &BTreeSet<String>) {
    let known: BTreeSet<(String, String)> =
        items.iter().map(|row| (row.item.namespace.clone(), row.item.name.clone())).collect();
    for pod in pods {
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { continue };
        let Some(node) = spec.node_name.as_ref().filter(|node| answered.contains(*node)) else { continue };
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let name = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
        if ended || spec.host_network == Some(true) || known.contains(&name) {
            continue;
        }
        let addresses = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
        let item = Endpoint {
            namespace: name.0,
            name: name.1,
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            sync: Sync::Missing,
            problem: "its node has not heard of it: see \"axoneme status\"".to_owned(),
            desired: Some(EndpointState { identity: 0, addresses }),
            ..Endpoint::default()
        };
        items.push(On { seen_on: node.clone(), item });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, spec: serde_json::Value, phase: &str) -> Pod {
        let value = json!({"metadata": {"namespace": "shop", "name": name, "uid": name}, "spec": spec,
            "status": {"phase": phase, "podIPs": [{"ip": "10.0.0.9"}]}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_that_their_node_does_not_know_are_missing() {
        let on = |node: &str| json!({"nodeName": node, "containers": []});
        let pods = [
            pod("known", on("n1"), "Running"),
            pod("unknown", on("n1"), "Running"),
            pod("done", on("n1"), "Succeeded"),
            pod("host", json!({"nodeName": "n1", "hostNetwork": true, "containers": []}), "Running"),
            pod("elsewhere", on("silent"), "Running"),
            pod("unbound", json!({"containers": []}), "Pending"),
        ];
        let known = Endpoint { namespace: "shop".into(), name: "known".into(), ..Endpoint::default() };
        let mut items = vec![On { seen_on: "n1".to_owned(), item: known }];
        add_unknown(&mut items, &pods, &["n1".to_owned()].into());
        let names: Vec<_> = items.iter().map(|row| (&*row.item.name, row.item.sync)).collect();
        assert_eq!(names, [("known", Sync::AsDesired), ("unknown", Sync::Missing)]);
    }
}
