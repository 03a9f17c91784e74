//! Pods that talk.

use std::net::SocketAddr;

use axoneme_e2e::kubectl::run;
use axoneme_e2e::reach::{self, Outcome};

use crate::lab::{Lab, UDP};

#[test]
fn pods_reach_each_other_on_a_node_and_across_nodes() {
    let lab = Lab::open();
    let workload = lab.workload("pods-all");
    let servers = lab.servers(&workload, &[("a", 0), ("b", 0), ("c", 1), ("d", 2)]);
    for from in &servers {
        for to in &servers {
            for target in to.everywhere() {
                assert_eq!(from.ask(target), Outcome::Reached(to.name.clone()), "{} to {target}", from.name);
                let target = SocketAddr::new(target.ip(), UDP);
                let udp = reach::probe_udp(&from.network, target).unwrap();
                assert_eq!(udp, Outcome::Reached(to.name.clone()), "{} to {target} by UDP", from.name);
            }
        }
    }
}

#[test]
fn nodes_reach_all_pods_and_pods_reach_all_nodes() {
    let lab = Lab::open();
    let workload = lab.workload("pods-nodes");
    let servers = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    for (n, index) in lab.cluster.nodes().unwrap().into_iter().enumerate() {
        for server in &servers {
            for target in server.everywhere() {
                let outcome = reach::probe(&lab.node_network(n), target).unwrap();
                assert_eq!(outcome, Outcome::Reached(server.name.clone()), "node {index} to {target}");
            }
            // The kubelet answers requests without a certificate with an error, but it answers.
            let kubelet = SocketAddr::new(lab.node_ips(n)[0], 10250);
            reach::Conversation::open(&server.network, kubelet).unwrap();
        }
    }
}

#[test]
fn a_stream_across_nodes_is_not_stopped_by_its_packets_size() {
    let lab = Lab::open();
    let workload = lab.workload("pods-stream");
    let servers = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    let mut sink = lab.cluster.pod_command(&lab.api, &workload.namespace, "b", "iperf3").unwrap();
    let mut sink = sink.args(["-s", "-1"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut source = lab.cluster.pod_command(&lab.api, &workload.namespace, "a", "iperf3").unwrap();
    let result = run(source.args(["-c", &servers[1].ip.to_string(), "-n", "50M", "-i", "0"]));
    let _ = sink.kill();
    let _ = sink.wait();
    result.unwrap();
}

#[test]
fn the_api_server_is_reached_through_its_service() {
    let lab = Lab::open();
    let workload = lab.workload("pods-api");
    let servers = lab.servers(&workload, &[("a", 0)]);
    let api = SocketAddr::new(lab.cluster.folder.expect().unwrap().addresses().api_service(), 443);
    reach::Conversation::open(&servers[0].network, api).unwrap();
}
