//! Which nodes are clean.

use std::collections::BTreeSet;

use anyhow::Context;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, Volume};
use serde_json::{Value, json};

/// What the nodes' program is told in place of nothing: see `axoneme-node help`.
const CLEANUP: [&str; 2] = ["cleanup", "--stay"];

/// How a DaemonSet comes to clean, on all nodes at once; none when it does already. Fails when it is not of the expected form.
pub(super) fn cleaning(set: &DaemonSet) -> anyhow::Result<Option<Value>> {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let pod = pod.context("it has no pods")?;
    let container = pod.containers.first().context("it has no container")?;
    let arguments = container.args.as_ref().context("its container has no arguments")?;
    if arguments.starts_with(&CLEANUP.map(str::to_owned)) {
        return Ok(None);
    }
    // Where no operator has ever led, there is no ConfigMap of operators, and pods that insist on it never start.
    let optional = |volume: &Volume| {
        let map = volume.config_map.as_ref().filter(|map| map.optional == Some(false))?;
        Some(json!({"name": volume.name, "configMap": {"name": map.name, "optional": true}}))
    };
    let volumes: Vec<Value> = pod.volumes.iter().flatten().filter_map(optional).collect();
    let arguments: Vec<&str> = CLEANUP.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    Ok(Some(json!({
        "metadata": {"resourceVersion": set.metadata.resource_version},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}},
            "template": {"spec": {"containers": [{"name": container.name, "args": arguments}], "volumes": volumes}},
        },
    })))
}

/// The nodes that these pods run on.
pub(super) fn of(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect()
}

/// Nodes that are not clean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// They will be.
    pub(super) waiting: Vec<String>,
    /// Their kubelet does not say anything: nobody can clean them.
    pub(super) silent: Vec<String>,
}

/// Of the nodes that are `concerned` and still exist, those without a ready pod that has cleaned.
pub(super) fn left(concerned: &BTreeSet<String>, pods: &[Pod], nodes: &[Node]) -> Left {
    let clean = of(&pods.iter().filter(|pod| has_cleaned(pod)).cloned().collect::<Vec<_>>());
    let mut left = Left { waiting: Vec::new(), silent: Vec::new() };
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        if !concerned.contains(&name) || clean.contains(&name) {
            continue;
        }
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let silent = conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown");
        if silent { left.silent.push(name) } else { left.waiting.push(name) }
    }
    left
}

fn has_cleaned(pod: &Pod) -> bool {
    let arguments = pod.spec.iter().flat_map(|spec| spec.containers.first()).flat_map(|one| one.args.iter().flatten());
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && arguments.take(CLEANUP.len()).eq(CLEANUP)
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(node: &str, arguments: &[&str], ready: &str) -> Pod {
        object(json!({
            "metadata": {"name": node},
            "spec": {"nodeName": node, "containers": [{"name": "node", "args": arguments}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    fn node(name: &str, ready: &str) -> Node {
        object(json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
    }

    #[test]
    fn a_node_is_clean_when_what_cleans_is_ready_and_not_when_its_daemon_is() {
        let cleaning = ["cleanup", "--stay", "--node-name=x"];
        let pods = [
            pod("clean", &cleaning, "True"),
            pod("busy", &cleaning, "False"),
            pod("daemon", &["--node-name=x"], "True"),
            pod("silent", &["--node-name=x"], "False"),
        ];
        let mut concerned = of(&pods);
        concerned.extend(["between".to_owned(), "deleted".to_owned()]);
        let nodes = ["clean", "busy", "daemon", "between", "elsewhere"].map(|name| node(name, "False"));
        let nodes: Vec<Node> = nodes.into_iter().chain([node("silent", "Unknown")]).collect();
        let left = left(&concerned, &pods, &nodes);
        assert_eq!(left.waiting, ["busy", "daemon", "between"]);
        assert_eq!(left.silent, ["silent"]);
    }

    #[test]
    fn a_daemon_set_is_told_to_clean_once() {
        let set = |arguments: &[&str]| -> DaemonSet {
            object(json!({"spec": {
                "selector": {},
                "template": {"spec": {
                    "containers": [{"name": "node", "args": arguments}],
                    "volumes": [
                        {"name": "config", "configMap": {"name": "a"}},
                        {"name": "operators", "configMap": {"name": "b", "optional": false}},
                    ],
                }},
            }}))
        };
        let patch = cleaning(&set(&["--node-name=x"])).unwrap().expect("a patch");
        let container = &patch["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(*container, json!({"name": "node", "args": ["cleanup", "--stay", "--node-name=x"]}));
        let volumes = &patch["spec"]["template"]["spec"]["volumes"];
        assert_eq!(*volumes, json!([{"name": "operators", "configMap": {"name": "b", "optional": true}}]));
        assert!(cleaning(&set(&["cleanup", "--stay", "--node-name=x"])).unwrap().is_none());
        assert!(cleaning(&object(json!({"spec": {"selector": {}, "template": {}}}))).is_err());
    }
}
