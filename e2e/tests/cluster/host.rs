//! What else there is on a node: its firewall, its routes, its devices.

use std::net::{IpAddr, SocketAddr};

use axoneme_e2e::outside::Outside;
use axoneme_e2e::state::Routing;
use axoneme_e2e::{link, reach};

use crate::lab::{HTTP, Lab, Server, eventually, of_family, steadily};
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
    for cidr in lab.pod_cidrs(1) {
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

/// What is on the other side of a node's second uplink, the address that the node has there, and the length of their subnet.
const BEHIND: [(&str, &str, u8); 2] = [("192.0.2.90", "192.0.2.1", 24), ("2001:db8:2::90", "2001:db8:2::1", 64)];

#[test]
fn a_second_uplink_comes_is_renamed_and_goes() {
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    let workload = lab.workload("host-uplinks");
    let pods = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    let node = lab.node(0);
    let behind = BEHIND.map(|(far, own, bits)| (far.parse::<IpAddr>().unwrap(), own.parse::<IpAddr>().unwrap(), bits));
    let behind: Vec<_> = behind.into_iter().filter(|(far, ..)| of_family(&pods[0].ips, *far).is_some()).collect();

    let up = |device: &str| {
        lab.on_node(0, &format!("ip link set {device} up"));
        for (far, own, bits) in &behind {
            lab.on_node(0, &format!("ip addr replace {own}/{bits} dev {device} nodad"));
            lab.on_node(0, &format!("ip route replace default via {far} dev {device} metric 4000"));
        }
    };
    outside.ip(&format!("link add second type veth peer name eth1 netns {node}")).unwrap();
    outside.ip("link set second up").unwrap();
    for (far, _, bits) in &behind {
        outside.ip(&format!("addr add {far}/{bits} dev second nodad")).unwrap();
    }
    up("eth1");
    let seen = |network, ip: IpAddr| reach::seen_as(network, SocketAddr::new(ip, HTTP)).ok();
    let by_its_address = || behind.iter().all(|(far, own, _)| seen(&pods[0].network, *far) == Some(*own));
    let pods_talk = || pods[1].everywhere().all(|target| pods[0].ask(target).reached());
    eventually("pods reach what is behind it, with the node's address there", by_its_address);
    steadily("pods reach what is behind it", by_its_address);
    let host = lab.node_network(0);
    assert!(behind.iter().all(|(far, own, _)| seen(&host, *far) == Some(*own)), "so does the host");
    assert!(pods_talk(), "pods go on to talk");

    lab.on_node(0, "ip link set eth1 down");
    lab.on_node(0, "ip link set eth1 name lan0");
    up("lan0");
    eventually("and by its new name", by_its_address);
    assert!(pods_talk(), "pods go on to talk");

    link::ip(&format!("-n {node} link del lan0")).unwrap();
    eventually("it is gone, and pods go on to talk", pods_talk);
    eventually("and reach the world as before", || {
        let as_node = |world| seen(&pods[0].network, world) == of_family(&lab.node_ips(0), world);
        outside.addresses.iter().copied().all(as_node)
    });
}
