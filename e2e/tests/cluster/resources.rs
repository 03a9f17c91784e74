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

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const POLICIES: [&str; 2] = ["validatingadmissionpolicybindings", "validatingadmissionpolicies"];

/// The API server takes no new CiliumIdentities until this is dropped.
struct Refused<'a>(&'a Lab);

impl<'a> Refused<'a> {
    const NAME: &'static str = "scenario-no-identities";

    fn identities(lab: &'a Lab) -> Self {
        let rule = json!({
            "apiGroups": ["cilium.io"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["ciliumidentities"],
        });
        let policy = json!({
            "metadata": {"name": Self::NAME},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "the scenario takes none"}],
            },
        });
        let binding = json!({
            "metadata": {"name": Self::NAME},
            "spec": {"policyName": Self::NAME, "validationActions": ["Deny"]},
        });
        let refused = Self(lab);
        for (kind, object) in POLICIES.iter().zip([binding, policy]) {
            lab.api.create(&format!("{ADMISSION}/{kind}"), &object).unwrap();
        }
        let one = json!({
            "apiVersion": CILIUM, "kind": "CiliumIdentity", "metadata": {"name": Self::NAME}, "security-labels": {},
        });
        eventually("the API server takes none", || {
            lab.api.create(&format!("/apis/{CILIUM}/ciliumidentities?dryRun=All"), &one).is_err()
        });
        refused
    }
}

impl Drop for Refused<'_> {
    fn drop(&mut self) {
        for kind in POLICIES {
            let _ = self.0.api.delete(&format!("{ADMISSION}/{kind}/{}", Self::NAME));
        }
    }
}

#[test]
fn nobody_notices_that_an_identity_in_use_is_deleted_until_it_is_made_anew() {
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

    // A packet that is dropped once is sent again: what counts is that none is. The count is all pods'.
    lab.others_are_gone(&workload);
    let drops = || dropped(&lab, 0, "Policy denied");
    let so_far = drops();
    assert!(so_far > 0.0, "strangers' are counted");
    let refused = Refused::identities(&lab);
    identities.iter().for_each(|path| lab.api.delete(path).unwrap());
    steadily("a new connection of a friend comes about", || friend.ask(server.http()).reached());
    assert_eq!(drops(), so_far, "and nothing of them is dropped");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds");
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "what talked goes on");
    assert!(identities.iter().all(|path| lab.api.find(path).unwrap().is_none()), "they are still gone");

    drop(refused);
    for (path, before) in identities.iter().zip(&before) {
        eventually("it is there again", || lab.api.find(path).unwrap().is_some());
        let now = lab.api.get(path).unwrap();
        assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"], "another object");
        assert_eq!(now["security-labels"], before["security-labels"], "for the same labels");
    }
}
