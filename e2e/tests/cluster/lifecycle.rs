//! What goes on when components do not.

use std::time::Duration;

use axoneme_e2e::component::End;
use axoneme_e2e::reach::Conversation;

use crate::lab::{Lab, Server, eventually, within};

/// A policy in force, a connection that it allows, and the program killed and started again: nothing changes.
fn survives(program: &str, namespace: &str) {
    let lab = Lab::open();
    let workload = lab.workload(namespace);
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger]: &[Server; 3] = pods.as_slice().try_into().unwrap();
    workload.friends_policy().unwrap();
    eventually("the policy is in force", || !stranger.ask(server.http()).reached());
    let mut conversation = Conversation::open(&friend.network, server.http()).unwrap();
    assert!(conversation.ask(Duration::from_secs(2)).is_ok());

    let nodes = lab.cluster.nodes().unwrap();
    let before = lab.cluster.programs(program, &nodes).unwrap();
    assert!(!before.is_empty(), "{program} runs");
    lab.cluster.end_component(program, &[], End::Kill).unwrap();
    // While nobody is there.
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "the connection goes on");
    assert!(friend.ask(server.http()).reached(), "new connections come about");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds");
    within(Duration::from_secs(120), &format!("{program} is back"), || {
        lab.cluster.programs(program, &nodes).is_ok_and(|now| now.len() >= before.len())
    });
    // And when they are back and have done what they do at start.
    within(Duration::from_secs(60), "a new pod gets its network", || {
        let _ = lab.servers(&workload, &[("late", 0)]);
        true
    });
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "the connection goes on after the restart");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds after the restart");
    eventually("new connections come about after the restart", || friend.ask(server.http()).reached());
}

#[test]
fn nothing_is_lost_when_all_daemons_are_killed() {
    survives("axoneme-node", "life-daemon");
}

#[test]
fn nothing_is_lost_when_all_operators_are_killed() {
    survives("axoneme-operator", "life-operator");
}

#[test]
fn pods_start_although_the_daemon_is_killed_meanwhile() {
    let lab = Lab::open();
    let workload = lab.workload("life-add");
    workload.deployment("burst", &lab.node(0), 10, axoneme_e2e::images::PAUSE).unwrap();
    let first = lab.cluster.nodes().unwrap()[0];
    std::thread::sleep(Duration::from_millis(700));
    lab.cluster.end_component("axoneme-node", &[first], End::Kill).unwrap();
    workload.deployment_ready("burst", 10, Duration::from_secs(120)).unwrap();
    workload.deployment_gone("burst").unwrap();
}

#[test]
fn a_node_joins_and_leaves() {
    let lab = Lab::open();
    let before = lab.cluster.nodes().unwrap();
    lab.cluster.add_nodes(1).unwrap();
    let new = *lab.cluster.nodes().unwrap().iter().find(|n| !before.contains(n)).unwrap();
    let name = lab.cluster.folder.node_name(new);
    lab.cluster.wait_nodes_ready(&lab.api, Duration::from_secs(90)).unwrap();
    {
        let workload = lab.workload("life-join");
        let position = lab.cluster.nodes().unwrap().iter().position(|n| *n == new).unwrap();
        let pods = lab.servers(&workload, &[("old", 0), ("new", position)]);
        eventually("pods of the new node are reached", || pods[0].ask(pods[1].http()).reached());
        eventually("pods of the new node reach others", || pods[1].ask(pods[0].http()).reached());
    }
    lab.cluster.remove_node(new).unwrap();
    let path = format!("/apis/cilium.io/v2/ciliumnodes/{name}");
    eventually("its CiliumNode is gone", || lab.api.find(&path).unwrap().is_none());
}
