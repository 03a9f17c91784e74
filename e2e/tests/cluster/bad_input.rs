//! What goes wrong on the user's side must be said, and break nothing else.

use std::time::Duration;

use serde_json::json;

use crate::lab::{Lab, eventually, steadily, within};

#[test]
fn a_selector_that_matches_nothing_changes_nothing() {
    let lab = Lab::open();
    let workload = lab.workload("bad-selector");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    let spec =
        json!({"podSelector": {"matchLabels": {"app": "nobody-has-this"}}, "policyTypes": ["Ingress", "Egress"]});
    workload.policy("nobody", &spec).unwrap();
    steadily("the client reaches the server", || pods[1].ask(pods[0].http()).reached());
    // It is said after a while: the pods may just be later than their policy.
    let events = workload.path("events.k8s.io/v1", "events");
    within(Duration::from_secs(40), "the user is told", || {
        lab.api.list(&events).unwrap().iter().any(|event| {
            event["reason"] == "NoMatchingPods" && event["type"] == "Normal" && event["regarding"]["name"] == "nobody"
        })
    });
}

#[test]
fn a_selector_that_can_never_match_is_said_at_once() {
    let lab = Lab::open();
    let workload = lab.workload("bad-label");
    let spec = json!({"podSelector": {"matchLabels": {"pod-template-hash": "abc"}}, "policyTypes": ["Ingress"]});
    workload.policy("by-hash", &spec).unwrap();
    let events = workload.path("events.k8s.io/v1", "events");
    eventually("the label is named", || {
        lab.api.list(&events).unwrap().iter().any(|event| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "LabelNotInIdentity" && event["type"] == "Warning" && note.contains("pod-template-hash")
        })
    });
}

#[test]
fn a_pod_without_labels_has_an_address_and_obeys_policies() {
    let lab = Lab::open();
    let workload = lab.workload("bad-labels");
    let pods = lab.servers(&workload, &[("server", 0), ("plain", 1)]);
    let path = format!("{}/plain", workload.path("", "pods"));
    lab.api.patch(&path, &json!({"metadata": {"labels": {"app": null}}})).unwrap();
    assert!(pods[1].ask(pods[0].http()).reached());
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}]}],
    });
    workload.policy("labelled", &spec).unwrap();
    eventually("the pod without labels is kept out", || !pods[1].ask(pods[0].http()).reached());
}
