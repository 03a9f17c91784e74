//! Pods of the host's network: to everybody they are the node that they are on.

use std::net::SocketAddr;

use axoneme_e2e::reach;
use axoneme_e2e::workload::Workload;
use serde_json::json;

use crate::lab::{Lab, Server, dropped, eventually};

/// Starts pods of the host's network, which serve at this port and by UDP at the next: a name and the number of a node each. Gives them
/// when all are ready. No other scenario may have the port: pods of one that is over serve for a while.
pub(crate) fn start(lab: &Lab, workload: &Workload<'_>, port: u16, wanted: &[(&str, usize)]) -> Vec<Server> {
    for (name, node) in wanted {
        let arguments = ["netexec".to_owned(), format!("--http-port={port}"), format!("--udp-port={}", port + 1)];
        lab.create(workload, name, *node, json!({}), json!({"hostNetwork": true}), &arguments);
    }
    wanted.iter().map(|(name, _)| lab.server_at(workload, name, port)).collect()
}

#[test]
fn pods_of_the_hosts_network_are_reached_and_reach_pods() {
    let lab = Lab::open();
    let workload = lab.workload("hostnet-reach");
    let pods = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    let hosts = start(&lab, &workload, 18090, &[("on-a", 0), ("on-c", 2)]);
    for host in &hosts {
        for pod in &pods {
            for ip in &host.ips {
                let outcome = pod.ask(SocketAddr::new(*ip, 18090));
                assert!(outcome.reached(), "{} to {} at {ip}: {outcome:?}", pod.name, host.name);
            }
            for target in pod.everywhere() {
                let outcome = host.ask(target);
                assert!(outcome.reached(), "{} to {} at {target}: {outcome:?}", host.name, pod.name);
            }
        }
    }
}

#[test]
fn policies_take_a_pod_of_the_hosts_network_for_its_node() {
    let lab = Lab::open();
    let workload = lab.workload("hostnet-policy");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    let hosts = start(&lab, &workload, 18092, &[("near", 0), ("far", 1)]);
    let [near, far] = hosts.as_slice() else { panic!("two pods") };
    let seen = reach::seen_as(&far.network, server.http()).unwrap();

    // By its labels it is nobody.
    let named = json!({"key": "app", "operator": "In", "values": ["friend", "near", "far"]});
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchExpressions": [named]}}]}],
    });
    workload.policy("friends", &spec).unwrap();
    eventually("the stranger is kept out", || !stranger.ask(server.http()).reached());
    let before = dropped(&lab, 0, "Policy denied");
    assert!(!far.ask(server.http()).reached(), "another node is kept out, whatever labels pods on it have");
    eventually("that is counted", || dropped(&lab, 0, "Policy denied") > before);
    assert!(near.ask(server.http()).reached(), "the server's own node is always let in");
    assert!(friend.ask(server.http()).reached(), "the friend is let in");

    // Its node's address is who it is.
    let block = json!([{"from": [{"ipBlock": {"cidr": ipnet::IpNet::from(seen).to_string()}}]}]);
    workload.change_policy("friends", &block).unwrap();
    eventually("the other node is let in by its address", || far.ask(server.http()).reached());
    assert!(!friend.ask(server.http()).reached(), "the friend is not there");
}
