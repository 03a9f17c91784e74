//! What a user sees with kubectl.

use serde_json::json;

use crate::lab::{Lab, eventually};

const CILIUM: &str = "cilium.io/v2";

#[test]
fn every_node_has_a_range_of_its_own() {
    let lab = Lab::open();
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..lab.cluster.nodes().unwrap().len() {
        let node = lab.api.get(&format!("/apis/{CILIUM}/ciliumnodes/{}", lab.node(n))).unwrap();
        let range = node["spec"]["ipam"]["podCIDRs"][0].as_str().unwrap().to_owned();
        assert!(seen.insert(range.clone()), "{range} is given twice");
    }
}

#[test]
fn a_pod_has_an_endpoint_and_pods_with_the_same_labels_share_an_identity() {
    let lab = Lab::open();
    let workload = lab.workload("resources");
    let path = workload.path("", "pods");
    let servers = lab.servers(&workload, &[("one", 0), ("two", 1), ("other", 1)]);
    let identity = |name: &str| {
        let endpoint = lab.api.find(&format!("{}/{name}", workload.path(CILIUM, "ciliumendpoints"))).unwrap()?;
        endpoint["status"]["identity"]["id"].as_i64()
    };
    eventually("all have an identity", || servers.iter().all(|s| identity(&s.name).is_some()));
    assert_ne!(identity("one"), identity("two"), "labels differ");
    for name in ["one", "two"] {
        lab.api.patch(&format!("{path}/{name}"), &json!({"metadata": {"labels": {"app": "same"}}})).unwrap();
    }
    eventually("the same labels are the same identity", || {
        identity("one").is_some() && identity("one") == identity("two")
    });
    let number = identity("one").unwrap();
    let object = lab.api.get(&format!("/apis/{CILIUM}/ciliumidentities/{number}")).unwrap();
    assert_eq!(object["security-labels"]["k8s:app"], "same");

    let endpoint = lab.api.get(&format!("{}/other", workload.path(CILIUM, "ciliumendpoints"))).unwrap();
    let address = &endpoint["status"]["networking"]["addressing"][0]["ipv4"];
    assert_eq!(*address, servers[2].object["status"]["podIP"], "{endpoint}");
    lab.api.delete(&format!("{path}/other")).unwrap();
    eventually("the endpoint goes with its pod", || identity("other").is_none());
}
