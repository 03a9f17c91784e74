//! What else there is on a node: its firewall, its routes, its devices.

use std::net::SocketAddr;

use axoneme_e2e::outside::Outside;
use axoneme_e2e::reach;
use axoneme_e2e::state::Routing;

use crate::lab::{HTTP, Lab, Server, eventually, of_family};
use crate::outside::teach;

/// A policy of the firewall's chain FORWARD on all nodes, and ACCEPT again when dropped.
struct Forward<'a>(&'a Lab);

impl Forward<'_> {
    fn set(&self, policy: &str) {
        for n in 0..self.0.cluster.nodes().unwrap().len() {
            self.0.on_node(n, &format!("iptables -P FORWARD {policy}"));
            self.0.on_node(n, &format!("ip6tables -P FORWARD {policy}"));
        }
    }
}

impl Drop for Forward<'_> {
    fn drop(&mut self) {
        self.set("ACCEPT");
    }
}

#[test]
fn a_firewall_that_forwards_nothing_does_not_stop_pods() {
    let lab = Lab::open();
    let forward = Forward(&lab);
    forward.set("DROP");
    let outside = Outside::start(&lab.cluster).unwrap();
    teach(&lab, &outside);
    let workload = lab.workload("host-firewall");
    let pods = lab.servers(&workload, &[("a", 0), ("near", 0), ("far", 1)]);
    for target in pods[1..].iter().flat_map(Server::everywhere) {
        eventually(&format!("a pod reaches {target}"), || pods[0].ask(target).reached());
    }
    for world in &outside.addresses {
        let target = SocketAddr::new(*world, HTTP);
        eventually(&format!("a pod reaches {world} outside"), || pods[0].ask(target).reached());
    }
    let network = outside.network().unwrap();
    for target in pods.iter().flat_map(Server::everywhere) {
        eventually(&format!("the world reaches {target}"), || reach::probe(&network, target).unwrap().reached());
    }
}

#[test]
fn native_routing_has_a_route_to_each_node_and_leaves_those_of_others_alone() {
    let lab = Lab::open();
    if lab.state().routing != Routing::Native {
        println!("skipped: the cluster's routing is {:?}", lab.state().routing);
        return;
    }
    assert!(!lab.on_node(0, "ip -o link show").contains("axoneme_vxlan"), "no overlay device");
    let ledger = lab.api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{}", lab.node(1))).unwrap();
    for cidr in ledger["spec"]["ipam"]["podCIDRs"].as_array().unwrap() {
        let cidr: ipnet::IpNet = cidr.as_str().unwrap().parse().unwrap();
        let via = of_family(&lab.node_ips(1), cidr.addr()).unwrap();
        let family = if via.is_ipv4() { "-4" } else { "-6" };
        let route = lab.on_node(0, &format!("ip {family} route show {cidr}"));
        assert!(route.contains(&format!("via {via} dev eth0")), "{cidr}: {route}");
    }

    let gateway = lab.node_ips(2)[0];
    let foreign = if gateway.is_ipv4() { "198.51.100.0/24" } else { "2001:db8:100::/48" };
    lab.on_node(0, &format!("ip route replace {foreign} via {gateway} proto static"));
    lab.cluster.end_component("axoneme-node", &[lab.index(0)], axoneme_e2e::component::End::Restart).unwrap();
    let workload = lab.workload("host-routes");
    lab.servers(&workload, &[("a", 0)]);
    let family = if gateway.is_ipv4() { "-4" } else { "-6" };
    let route = lab.on_node(0, &format!("ip {family} route show {foreign}"));
    lab.on_node(0, &format!("ip route del {foreign}"));
    assert!(route.contains(&gateway.to_string()), "{foreign} is left alone");
}
