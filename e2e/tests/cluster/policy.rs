//! NetworkPolicy, where upstream's suite does not look: connections that exist, and pods' addresses in ipBlock.

use std::time::Duration;

use axoneme_e2e::reach::Conversation;
use axoneme_e2e::workload::Workload;
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, steadily};

fn policy(lab: &Lab, workload: &Workload<'_>, name: &str, spec: &Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    lab.api.create(&workload.path("networking.k8s.io/v1", "networkpolicies"), &object).unwrap();
}

fn remove(lab: &Lab, workload: &Workload<'_>, name: &str) {
    lab.api.delete(&format!("{}/{name}", workload.path("networking.k8s.io/v1", "networkpolicies"))).unwrap();
}

#[test]
fn a_policy_opens_for_whom_it_names_and_goes_when_it_is_deleted() {
    let lab = Lab::open();
    let workload = lab.workload("policy-names");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1), ("neighbour", 0)]);
    let [server, friend, stranger, neighbour] = pods.as_slice() else { panic!("four pods") };
    policy(
        &lab,
        &workload,
        "friends",
        &json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        }),
    );
    eventually("the stranger is kept out", || !stranger.ask(server.http()).reached());
    assert!(!neighbour.ask(server.http()).reached(), "a pod on the same node is kept out");
    assert!(friend.ask(server.http()).reached(), "the friend is let in");
    assert!(server.ask(stranger.http()).reached(), "nothing is said of what the server may reach");
    remove(&lab, &workload, "friends");
    eventually("all are let in again", || {
        stranger.ask(server.http()).reached() && neighbour.ask(server.http()).reached()
    });
}

#[test]
fn the_node_always_reaches_its_own_pods() {
    let lab = Lab::open();
    let workload = lab.workload("policy-host");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    policy(&lab, &workload, "closed", &json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    eventually("pods are kept out", || !pods[1].ask(pods[0].http()).reached());
    let host = lab.node_network(0);
    steadily("the kubelet's probes arrive", || axoneme_e2e::reach::probe(&host, pods[0].http()).unwrap().reached());
}

#[test]
fn a_connection_ends_when_a_policy_forbids_it() {
    let lab = Lab::open();
    let workload = lab.workload("policy-cut");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    let mut conversation = Conversation::open(&pods[1].network, pods[0].http()).unwrap();
    assert!(conversation.ask(Duration::from_secs(2)).is_ok());
    policy(
        &lab,
        &workload,
        "closed",
        &json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]}),
    );
    eventually("the connection is silent", || conversation.ask(Duration::from_millis(500)).is_err());
}

#[test]
fn a_block_of_addresses_holds_for_pods_too() {
    let lab = Lab::open();
    let workload = lab.workload("policy-block");
    let pods = lab.servers(&workload, &[("server", 0), ("inside", 1), ("excepted", 1)]);
    let [server, inside, excepted] = pods.as_slice() else { panic!("three pods") };
    policy(
        &lab,
        &workload,
        "block",
        &json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [format!("{}/32", excepted.ip)]}}]}],
        }),
    );
    eventually("the excepted address is kept out", || !excepted.ask(server.http()).reached());
    assert!(inside.ask(server.http()).reached(), "the block lets pods in");
}

#[test]
fn a_new_pod_is_known_to_its_peers_before_its_first_packet() {
    let lab = Lab::open();
    let workload = lab.workload("policy-first");
    let server = lab.servers(&workload, &[("server", 0)]).remove(0);
    policy(
        &lab,
        &workload,
        "guests",
        &json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["g0", "g1", "g2", "g3", "g4"]}]}}]}],
        }),
    );
    for (n, name) in ["g0", "g1", "g2", "g3", "g4"].into_iter().enumerate() {
        // connect, once, as the first thing that the container does: a dropped packet would be an exit code.
        let target = server.http().to_string();
        workload
            .pod(
                name,
                &lab.node(n),
                &axoneme_e2e::images::agnhost_name(&lab.cluster.paths).unwrap(),
                &["connect", &target, "--timeout=900ms"],
            )
            .unwrap();
    }
    let path = workload.path("", "pods");
    for name in ["g0", "g1", "g2", "g3", "g4"] {
        eventually(&format!("{name} connected at once"), || {
            let pod = lab.api.get(&format!("{path}/{name}")).unwrap();
            let state = &pod["status"]["containerStatuses"][0];
            let code = |s: &Value| s["terminated"]["exitCode"].as_i64();
            let code = code(&state["state"]).or(code(&state["lastState"]));
            assert!(code.is_none_or(|c| c == 0), "{name} was dropped: {state}");
            code == Some(0)
        });
    }
}
