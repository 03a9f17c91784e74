use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use axoneme_admin::node::{Frontend, Service, Sync};
use axoneme_admin::show::{self, SERVICE_COLUMNS};
use axoneme_admin::table::Table;
use k8s_openapi::api::core::v1::Service as Object;
use serde::Serialize;

use super::{Filter, List, ask};
use crate::cluster::Cluster;

/// A frontend, and the nodes that have it like this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    namespace: String,
    name: String,
    frontend: String,
    sync: Sync,
    problem: String,
    desired: Vec<String>,
    programmed: Vec<String>,
    nodes: BTreeSet<String>,
}

/// Frontends of services and their backends. Every node has all of them: one row tells of all nodes that have the same.
///
/// # Errors
/// When the API server does not tell.
pub async fn services(cluster: &Cluster, filter: &Filter, colours: bool) -> Result<List<Row>> {
    let objects = cluster.list::<Object>().await?;
    let (told, silent) = ask::<Service>(cluster, filter, "service").await?;
    let all: BTreeSet<String> = told.iter().map(|(node, _)| node.clone()).collect();
    let mut items = gather(told);
    add_unknown(&mut items, &objects, &all);
    items.retain(|row| filter.wants(row.sync) && filter.selects(&row.namespace, &row.name));
    Ok(List { table: table(&items, &all).render(colours), items, silent })
}

/// One row of everything that several nodes have alike.
fn gather(told: Vec<(String, Vec<Service>)>) -> Vec<Row> {
    let mut rows: BTreeMap<Row, BTreeSet<String>> = BTreeMap::new();
    for (node, services) in told {
        for service in services {
            for Frontend { frontend, sync, desired, programmed } in service.frontends {
                let row = Row {
                    namespace: service.namespace.clone(),
                    name: service.name.clone(),
                    frontend,
                    sync,
                    problem: if sync == Sync::Failing { service.problem.clone() } else { String::new() },
                    desired,
                    programmed,
                    nodes: BTreeSet::new(),
                };
                rows.entry(row).or_default().insert(node.clone());
            }
        }
    }
    rows.into_iter().map(|(row, nodes)| Row { nodes, ..row }).collect()
}

/// Adds services with addresses of the cluster that no node has heard of.
fn add_unknown(items: &mut Vec<Row>, objects: &[Object], all: &BTreeSet<String>) {
    let known: BTreeSet<(String, String)> = items.iter().map(|row| (row.namespace.clone(), row.name.clone())).collect();
    for object in objects {
        let name =
            (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default());
        let Some(spec) = &object.spec else { continue };
        let addresses: Vec<&String> = spec.cluster_ips.iter().flatten().filter(|ip| *ip != "None").collect();
        if known.contains(&name) || addresses.is_empty() || spec.ports.iter().flatten().next().is_none() {
            continue;
        }
        items.push(Row {
            namespace: name.0,
            name: name.1,
            frontend: addresses.into_iter().cloned().collect::<Vec<_>>().join(" "),
            sync: Sync::Missing,
            problem: "no node has heard of it".to_owned(),
            desired: Vec::new(),
            programmed: Vec::new(),
            nodes: all.clone(),
        });
    }
}

fn table(rows: &[Row], all: &BTreeSet<String>) -> Table {
    let mut table = Table::new(&SERVICE_COLUMNS);
    for row in rows {
        let nodes = if row.nodes == *all {
            format!("all {}", all.len())
        } else {
            row.nodes.iter().cloned().collect::<Vec<_>>().join(" ")
        };
        let frontend = Frontend {
            frontend: row.frontend.clone(),
            sync: row.sync,
            desired: row.desired.clone(),
            programmed: row.programmed.clone(),
        };
        let service = Service {
            namespace: row.namespace.clone(),
            name: row.name.clone(),
            problem: row.problem.clone(),
            frontends: vec![frontend],
            ..Service::default()
        };
        show::services(&mut table, &nodes, [&service]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(programmed: &str, sync: Sync) -> Vec<Service> {
        let (desired, programmed) = (vec!["10.0.0.7:80".to_owned()], vec![programmed.to_owned()]);
        let frontend = Frontend { frontend: "10.96.0.1:80/tcp".into(), sync, desired, programmed };
        vec![Service { namespace: "shop".into(), name: "web".into(), frontends: vec![frontend], ..Service::default() }]
    }

    #[test]
    fn nodes_that_have_the_same_share_a_row() {
        let told = vec![
            ("n1".to_owned(), service("10.0.0.7:80", Sync::AsDesired)),
            ("n2".to_owned(), service("10.0.0.8:80", Sync::Differs)),
            ("n3".to_owned(), service("10.0.0.7:80", Sync::AsDesired)),
        ];
        let all = ["n1", "n2", "n3"].map(str::to_owned).into();
        let mut rows = gather(told);
        let object = json!({"metadata": {"namespace": "shop", "name": "new"},
            "spec": {"clusterIPs": ["10.96.0.2"], "ports": [{"port": 80}]}});
        let headless = json!({"metadata": {"namespace": "shop", "name": "headless"},
            "spec": {"clusterIPs": ["None"], "ports": [{"port": 80}]}});
        let objects = [object, headless].map(|object| serde_json::from_value(object).unwrap());
        add_unknown(&mut rows, &objects, &all);
        assert_eq!(
            table(&rows, &all).render(false),
            "\
NAMESPACE  SERVICE  NODE   FRONTEND          BACKENDS DESIRED  PROGRAMMED   STATE
shop       web      n1 n3  10.96.0.1:80/tcp  10.0.0.7:80       the same     as desired
shop       web      n2     10.96.0.1:80/tcp  10.0.0.7:80       10.0.0.8:80  differs
shop       new      all 3  10.96.0.2         -                 the same     missing: no node has heard of it
"
        );
    }
}
