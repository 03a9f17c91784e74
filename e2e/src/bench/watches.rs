//! Who holds watches at the API server. Its metrics count them by resource; who holds them is in its audit log, which says
//! when each watch began and ended.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Goal, Report, Row, Set};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::table::{plain, render};

/// Watches that one agent of Cilium holds.
const CILIUM_PER_NODE: f64 = 14.0;

pub(super) fn measure(cluster: &Cluster, api: &Api) -> Result<Report> {
    let log = cluster.folder.log("audit");
    let file = std::fs::File::open(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let open = open_watches(BufReader::new(file))?;
    let mut counts: BTreeMap<(Holder, String), usize> = BTreeMap::new();
    for (user, resource) in open.into_values() {
        let holder = Holder::of(&user);
        // The control plane watches everything; that is no news.
        let resource = if holder == Holder::ControlPlane { "all resources".to_owned() } else { resource };
        *counts.entry((holder, resource)).or_default() += 1;
    }
    let rows: Vec<_> =
        counts.iter().map(|((h, r), n)| vec![plain(h.label()), plain(r), plain(n.to_string())]).collect();
    println!("\n{}", render(&["holder", "resource", "watches"], &rows));

    let held = |holder: Holder| counts.iter().filter(|((h, _), _)| *h == holder).map(|(_, n)| *n as f64).sum::<f64>();
    let nodes = cluster.nodes()?.len() as f64;
    let mut report = Report::new(Set::Watches);
    let row = Row::new("held by a node's daemon", held(Holder::Daemon) / nodes, "watches");
    report.add(row.reach(Goal::AtMost(0.0)).baseline(CILIUM_PER_NODE));
    report.add(Row::new("held by all operators", held(Holder::Operator), "watches"));
    report.add(Row::new("held by a kubelet", held(Holder::Kubelet) / nodes, "watches"));
    report.add(Row::new("open at the API server, by its own count", total(&api.raw("/metrics")?), "watches"));
    Ok(report)
}

/// Who holds a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Daemon,
    Operator,
    Kubelet,
    ControlPlane,
}

impl Holder {
    fn of(user: &str) -> Self {
        match user {
            "system:serviceaccount:kube-system:axoneme-node" => Self::Daemon,
            "system:serviceaccount:kube-system:axoneme-operator" => Self::Operator,
            user if user.starts_with("system:node:") => Self::Kubelet,
            _ => Self::ControlPlane,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Daemon => "node daemons",
            Self::Operator => "operators",
            Self::Kubelet => "kubelets",
            Self::ControlPlane => "control plane",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    stage: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
}

/// User and resource of each watch that began and has not ended.
fn open_watches(log: impl BufRead) -> Result<HashMap<String, (String, String)>> {
    let mut open = HashMap::new();
    for line in log.lines() {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
        if event.stage == "ResponseStarted" {
            open.insert(event.id, (event.user.username, event.object_ref.resource));
        } else {
            open.remove(&event.id);
        }
    }
    Ok(open)
}

/// All watches, by the API server's metrics.
fn total(metrics: &str) -> f64 {
    let lines =
        metrics.lines().filter(|l| l.starts_with("apiserver_longrunning_requests{") && l.contains("verb=\"WATCH\""));
    lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_open_until_it_is_complete() {
        let line = |id: &str, stage: &str| {
            format!(
                r#"{{"auditID":"{id}","stage":"{stage}","user":{{"username":"u"}},"objectRef":{{"resource":"pods"}}}}"#
            )
        };
        let log =
            [line("a", "ResponseStarted"), line("b", "ResponseStarted"), line("a", "ResponseComplete")].join("\n");
        let open = open_watches(log.as_bytes()).unwrap();
        assert_eq!(open.keys().collect::<Vec<_>>(), ["b"]);
    }
}
