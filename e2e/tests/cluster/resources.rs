//! What a user sees with kubectl.

use std::time::Duration;

use axoneme_e2e::reach::Conversation;
use serde_json::json;

use crate::lab::{Lab, dropped, eventually, steadily};

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

#[test]
fn an_identity_that_is_deleted_in_use_is_made_anew_and_nobody_notices() {
    let lab = Lab::open();
    let workload = lab.workload("identity-deleted");
    // In force before anybody talks, so that no connection is cut, whose ends would send again for long.
    workload.friends_policy().unwrap();
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    assert!(!stranger.ask(server.http()).reached(), "the policy is in force");
    let path = |pod: &str| {
        let endpoint = lab.api.find(&format!("{}/{pod}", workload.path(CILIUM, "ciliumendpoints"))).unwrap()?;
        Some(format!("/apis/{CILIUM}/ciliumidentities/{}", endpoint["status"]["identity"]["id"].as_i64()?))
    };
    eventually("they have identities", || path("server").is_some() && path("friend").is_some());
    let identities = [path("server").unwrap(), path("friend").unwrap()];
    let before: Vec<_> = identities.iter().map(|path| lab.api.get(path).unwrap()).collect();
    let mut conversation = Conversation::open(&friend.network, server.http()).unwrap();

    // A packet that is dropped once is sent again: what counts is that none is.
    let drops = || dropped(&lab, 0, "Policy denied");
    let so_far = drops();
    assert!(so_far > 0.0, "strangers' are counted");
    identities.iter().for_each(|path| lab.api.delete(path).unwrap());
    steadily("a new connection of a friend comes about", || friend.ask(server.http()).reached());
    assert_eq!(drops(), so_far, "and nothing of them is dropped");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds");
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "what talked goes on");
    for (path, before) in identities.iter().zip(&before) {
        eventually("it is there again", || lab.api.find(path).unwrap().is_some());
        let now = lab.api.get(path).unwrap();
        assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"], "another object");
        assert_eq!(now["security-labels"], before["security-labels"], "for the same labels");
    }
}
