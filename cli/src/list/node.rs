use std::collections::BTreeMap;

use anyhow::Result;
use axoneme_admin::node::{Node, Sync};
use axoneme_admin::show;
use axoneme_admin::table::{Cell, Table, Tone};
use serde::Serialize;

use super::{Filter, List, ask};
use crate::cluster::Cluster;

/// A node, and who knows it as it is desired.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// What is desired, by the first who tells.
    #[serde(flatten)]
    pub node: Node,
    /// How many nodes have it in their kernel as desired.
    pub programmed_on: usize,
    /// Of how many that answered.
    pub answers: usize,
    /// Nodes that have it otherwise, and what of it.
    pub differing_on: BTreeMap<String, Vec<String>>,
}

/// All nodes of the cluster, and how many have each in their kernel as desired.
///
/// # Errors
/// When the API server does not tell.
pub async fn nodes(cluster: &Cluster, filter: &Filter, colours: bool) -> Result<List<Known>> {
    let (told, silent) = ask::<Node>(cluster, filter, "node").await?;
    let objects = cluster.list::<k8s_openapi::api::core::v1::Node>().await?;
    let names = objects.into_iter().filter_map(|node| node.metadata.name);
    let mut items = gather(names, told);
    items.retain(|item| filter.wants(item.node.sync) && filter.selects_one(&item.node.name));
    Ok(List { table: table(&items).render(colours), items, silent })
}

fn gather(names: impl Iterator<Item = String>, told: Vec<(String, Vec<Node>)>) -> Vec<Known> {
    let answers = told.len();
    let unknown =
        |name: String| (name.clone(), Known { node: Node { name, ..Node::default() }, answers, ..Known::default() });
    let mut all: BTreeMap<String, Known> = names.map(unknown).collect();
    for (on, rows) in told {
        for row in rows {
            let known = all.entry(row.name.clone()).or_insert_with(|| unknown(row.name.clone()).1);
            let worst = known.node.sync.max(row.sync);
            if row.sync.is_good() {
                known.programmed_on += 1;
            } else {
                known.differing_on.insert(on.clone(), row.differing.clone());
            }
            if known.node.addresses.is_empty() {
                known.node = row;
            }
            known.node.sync = worst;
            known.node.differing.clear();
        }
    }
    for known in all.values_mut() {
        if known.programmed_on + known.differing_on.len() < answers {
            known.node.sync = known.node.sync.max(Sync::Missing);
        }
    }
    all.into_values().collect()
}

fn table(items: &[Known]) -> Table {
    let mut table = Table::new(&["NODE", "ADDRESSES", "OVERLAY", "POD CIDRS", "PROGRAMMED ON", "STATE"]);
    for Known { node, programmed_on, answers, differing_on } in items {
        let tone = if programmed_on == answers { Tone::Plain } else { Tone::Bad };
        let problem = differing_on.iter().map(|(on, what)| format!("{} on {on}", what.join(" ")));
        table.row([
            node.name.as_str().into(),
            node.addresses.join(" ").into(),
            node.overlay_addresses.join(" ").into(),
            node.pod_cidrs.join(" ").into(),
            Cell::new(format!("{programmed_on} of {answers} nodes"), tone),
            show::sync(node.sync, &problem.collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_who_has_a_node_otherwise_or_not_at_all() {
        let node = |name: &str, sync| Node {
            name: name.into(),
            sync,
            addresses: vec![format!("192.0.2.{}", &name[1..])],
            differing: if sync == Sync::AsDesired { vec![] } else { vec!["10.1.0.0/24".into()] },
            ..Node::default()
        };
        let told = vec![
            ("n1".to_owned(), vec![node("n1", Sync::AsDesired), node("n2", Sync::AsDesired)]),
            ("n2".to_owned(), vec![node("n1", Sync::Differs), node("n2", Sync::AsDesired)]),
        ];
        let names = ["n1", "n2", "n3"].map(str::to_owned).into_iter();
        let text = table(&gather(names, told)).render(false);
        assert_eq!(
            text,
            "\
NODE  ADDRESSES  OVERLAY  POD CIDRS  PROGRAMMED ON  STATE
n1    192.0.2.1  -        -          1 of 2 nodes   differs: 10.1.0.0/24 on n2
n2    192.0.2.2  -        -          2 of 2 nodes   as desired
n3    -          -        -          0 of 2 nodes   missing
"
        );
    }
}
