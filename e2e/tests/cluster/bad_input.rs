//! What goes wrong on the user's side must be said, and break nothing else.

use serde_json::json;

use crate::lab::{Lab, eventually, steadily};

#[test]
fn a_selector_that_matches_nothing_changes_nothing() {
    let lab = Lab::open();
    let workload = lab.workload("bad-selector");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    let policy = json!({
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"app": "nobody-has-this"}}, "policyTypes": ["Ingress", "Egress"]},
    });
    lab.api.create(&workload.path("networking.k8s.io/v1", "networkpolicies"), &policy).unwrap();
    steadily("the client reaches the server", || pods[1].ask(pods[0].http()).reached());
}

#[test]
fn a_pod_without_labels_has_an_address_and_obeys_policies() {
    let lab = Lab::open();
    let workload = lab.workload("bad-labels");
    let pods = lab.servers(&workload, &[("server", 0), ("plain", 1)]);
    let path = format!("{}/plain", workload.path("", "pods"));
    lab.api.patch(&path, &json!({"metadata": {"labels": {"app": null}}})).unwrap();
    assert!(pods[1].ask(pods[0].http()).reached());
    let policy = json!({
        "metadata": {"name": "labelled"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]}],
        },
    });
    lab.api.create(&workload.path("networking.k8s.io/v1", "networkpolicies"), &policy).unwrap();
    eventually("the pod without labels is kept out", || !pods[1].ask(pods[0].http()).reached());
}
