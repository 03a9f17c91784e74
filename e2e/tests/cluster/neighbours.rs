//! Other networks on the same nodes: moving away from one, and working behind one. Each scenario has a cluster of its own.

use std::time::Duration;

use axoneme_e2e::cluster::Shape;
use axoneme_e2e::reach::Conversation;
use axoneme_e2e::state::{Cni, Routing};
use serde_json::json;

use crate::lab::{OwnCluster, Server, eventually};

fn bridged(routing: Routing) -> Shape {
    Shape { cni: Cni::Bridge, routing, ..Shape::of(2) }
}

/// Whether its address is one that this project gives.
fn ours(own: &OwnCluster, server: &Server) -> bool {
    own.lab.state().addresses().pods().iter().any(|pods| pods.contains(&server.ip))
}

#[test]
fn a_running_cluster_moves_from_another_network_to_native_routing_without_a_reboot() {
    moves('m', Routing::Native);
}

#[test]
fn a_running_cluster_moves_from_another_network_to_vxlan_without_a_reboot() {
    moves('v', Routing::Tunnel);
}

fn moves(letter: char, routing: Routing) {
    let own = OwnCluster::start(letter, bridged(routing));
    let lab = &own.lab;
    let workload = lab.workload("move");
    let old = lab.servers(&workload, &[("old-a", 0), ("old-b", 1)]);
    let mut conversation = Conversation::open(&old[0].network, old[1].http()).unwrap();
    let processes = lab.state().processes();

    own.install(&[]);
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "what talked goes on");
    let new = lab.servers(&workload, &[("new-a", 0), ("new-b", 1)]);
    assert!(!old.iter().any(|pod| ours(&own, pod)) && new.iter().all(|pod| ours(&own, pod)));
    let all: Vec<_> = old.iter().chain(&new).collect();
    for from in &all {
        for to in &all {
            let outcome = from.ask(to.http());
            assert!(outcome.reached(), "{} to {}: {outcome:?}", from.name, to.name);
        }
    }

    // To policies, an old pod is an address, and nobody of the cluster.
    let ranges = lab.state().addresses().bridge_pods(lab.index(0));
    let block: Vec<_> = ranges.iter().map(|range| json!({"ipBlock": {"cidr": range.to_string()}})).collect();
    let guarded =
        json!({"podSelector": {"matchLabels": {"app": "new-b"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
    workload.policy("guarded", &guarded).unwrap();
    eventually("old pods are kept out", || {
        !old[0].ask(new[1].http()).reached() && !old[1].ask(new[1].http()).reached()
    });
    assert!(new[0].ask(new[1].http()).reached(), "new ones are let in by their labels");
    workload.change_policy("guarded", &json!([{ "from": block }])).unwrap();
    eventually("the old range of the first node is let in", || old[0].ask(new[1].http()).reached());
    assert!(!old[1].ask(new[1].http()).reached() && !new[0].ask(new[1].http()).reached(), "and nobody else");
    workload.remove_policy("guarded").unwrap();

    // As a user restarts them, in his own time.
    let path = workload.path("", "pods");
    for name in ["old-a", "old-b"] {
        lab.api.delete(&format!("{path}/{name}")).unwrap();
        eventually("it has ended", || lab.api.find(&format!("{path}/{name}")).unwrap().is_none());
    }
    let moved = lab.servers(&workload, &[("old-a", 0), ("old-b", 1)]);
    assert!(moved.iter().all(|pod| ours(&own, pod)));
    assert!(moved[0].ask(moved[1].http()).reached() && moved[0].ask(new[1].http()).reached());
    let spec = json!({"podSelector": {"matchLabels": {"app": "old-b"}}, "policyTypes": ["Ingress"]});
    workload.policy("closed", &spec).unwrap();
    eventually("policy is in force", || !moved[0].ask(moved[1].http()).reached());
    assert_eq!(lab.state().processes(), processes);
    assert!(processes.iter().all(|process| process.alive()), "no node was started again");
}

#[test]
fn policy_holds_for_pods_that_another_plugin_connects() {
    let own = OwnCluster::start('c', bridged(Routing::Native));
    let lab = &own.lab;
    let chained = ["routingMode=native", "ipam.mode=delegated-plugin", "cni.chainingMode=generic-veth"];
    let chained = [&chained[..], &["cni.chainingTarget=floor", "enableIPv4Masquerade=false"]].concat();
    own.install(&chained);
    let workload = lab.workload("chained");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1), ("neighbour", 0)]);
    let [server, friend, stranger, neighbour] = pods.as_slice() else { panic!("four pods") };
    assert!(!pods.iter().any(|pod| ours(&own, pod)), "the other plugin gives addresses");
    for from in [friend, stranger, neighbour] {
        assert!(from.ask(server.http()).reached(), "{} reaches the server", from.name);
    }
    workload.friends_policy().unwrap();
    eventually("strangers are kept out", || {
        !stranger.ask(server.http()).reached() && !neighbour.ask(server.http()).reached()
    });
    assert!(friend.ask(server.http()).reached(), "the friend is let in");
    let node = lab.node_network(0);
    assert!(axoneme_e2e::reach::probe(&node, server.http()).unwrap().reached(), "the kubelet reaches it");
}
