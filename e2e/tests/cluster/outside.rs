//! Between pods, nodes and the world: who reaches whom, and from which address that comes.

use std::net::{IpAddr, SocketAddr};

use axoneme_e2e::outside::Outside;
use axoneme_e2e::process::{Daemon, ProcessId};
use axoneme_e2e::reach::{self, Conversation, Outcome};
use axoneme_e2e::state::Routing;

use serde_json::json;

use crate::lab::{HTTP, Lab, eventually, of_family};

/// Where a process of a node serves; nothing else does.
const NODE_PORT: u16 = 18080;

/// A server as a process of a node.
struct OnNode(ProcessId);

impl OnNode {
    fn start(lab: &Lab, n: usize) -> Self {
        let binary = axoneme_e2e::gobuild::AGNHOST.build(&lab.cluster.paths).unwrap();
        let server = Daemon::new(binary, lab.cluster.folder.log("on-node"))
            .args(["netexec", &format!("--http-port={NODE_PORT}"), "--udp-port=18081"])
            .network(lab.node_network(n))
            .start()
            .unwrap();
        let local = SocketAddr::new([127, 0, 0, 1].into(), NODE_PORT);
        eventually("the node's server listens", || reach::probe(&lab.node_network(n), local).unwrap().reached());
        Self(server)
    }
}

impl Drop for OnNode {
    fn drop(&mut self) {
        self.0.signal(libc::SIGKILL);
    }
}

/// Tells the machine outside the way to each node's pods, as the network's routers would.
pub(crate) fn teach(lab: &Lab, outside: &Outside) {
    for n in 0..lab.cluster.nodes().unwrap().len() {
        for cidr in lab.pod_cidrs(n) {
            let via = of_family(&lab.node_ips(n), cidr.addr()).unwrap();
            outside.ip(&format!("route replace {cidr} via {via}")).unwrap();
        }
    }
}

#[test]
fn the_world_sees_pods_as_their_node() {
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    let workload = lab.workload("out-masquerade");
    let pods = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    for (n, pod) in pods.iter().enumerate() {
        for world in &outside.addresses {
            let seen = reach::seen_as(&pod.network, SocketAddr::new(*world, HTTP)).unwrap();
            assert_eq!(Some(seen), of_family(&lab.node_ips(n), *world), "{} at {world}", pod.name);
            let udp = reach::probe_udp(&pod.network, SocketAddr::new(*world, HTTP + 1)).unwrap();
            assert!(udp.reached(), "{} to {world} by UDP: {udp:?}", pod.name);
        }
    }
}

#[test]
fn destinations_that_are_excluded_see_pods_own_addresses() {
    let lab = Lab::open();
    let map = "/api/v1/namespaces/kube-system/configmaps/ip-masq-agent";
    let Some(before) = lab.api.find(map).unwrap() else {
        println!("skipped: the cluster has no ConfigMap ip-masq-agent; see values.yaml");
        return;
    };
    let outside = Outside::start(&lab.cluster).unwrap();
    teach(&lab, &outside);
    let workload = lab.workload("out-excluded");
    let pod = lab.servers(&workload, &[("a", 0)]).remove(0);
    let excluded: Vec<_> = outside.addresses.iter().map(|ip| ipnet::IpNet::from(*ip).to_string()).collect();
    let config = json!({"nonMasqueradeCIDRs": excluded}).to_string();
    let seen = |world: IpAddr| reach::seen_as(&pod.network, SocketAddr::new(world, HTTP)).ok();
    let all = |expected: &dyn Fn(IpAddr) -> IpAddr| outside.addresses.iter().all(|ip| seen(*ip) == Some(expected(*ip)));
    lab.api.patch(map, &json!({"data": {"config": config}})).unwrap();
    let own = within_reach("pods are seen", || all(&|ip| pod.like(ip)));
    lab.api.patch(map, &json!({"data": before["data"]})).unwrap();
    let node = within_reach("nodes are seen again", || all(&|ip| of_family(&lab.node_ips(0), ip).unwrap()));
    assert!(own && node, "as the pod: {own}, then as its node: {node}");
}

/// Whether the condition came to hold; what was changed for it is put back in either case.
fn within_reach(what: &str, condition: impl FnMut() -> bool) -> bool {
    let came = axoneme_e2e::process::wait_until(std::time::Duration::from_secs(20), condition);
    println!("{what}: {came}");
    came
}

#[test]
fn the_world_reaches_pods_where_it_knows_the_way() {
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    teach(&lab, &outside);
    let workload = lab.workload("out-in");
    let pods = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    let network = outside.network().unwrap();
    for pod in &pods {
        for target in pod.everywhere() {
            let outcome = reach::probe(&network, target).unwrap();
            assert_eq!(outcome, Outcome::Reached(pod.name.clone()), "{target}");
            // Answers leave as what was asked for: they are no connections of the pod's.
            let seen = reach::seen_as(&network, target).unwrap();
            assert_eq!(Some(seen), of_family(&outside.addresses, target.ip()), "the pod sees who asks");
        }
    }
}

#[test]
fn a_connection_from_the_world_outlives_many_of_the_pod_itself() {
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    teach(&lab, &outside);
    let workload = lab.workload("out-ports");
    let pod = lab.servers(&workload, &[("a", 0)]).remove(0);
    let mut conversation = Conversation::open(&outside.network().unwrap(), pod.http()).unwrap();
    let world = SocketAddr::new(of_family(&outside.addresses, pod.ip).unwrap(), HTTP);
    for _ in 0..50 {
        assert!(pod.ask(world).reached());
    }
    assert!(conversation.ask(std::time::Duration::from_secs(2)).is_ok());
}

#[test]
fn nodes_see_pods_as_the_routing_says() {
    let lab = Lab::open();
    let workload = lab.workload("out-nodes");
    let pod = lab.servers(&workload, &[("a", 0)]).remove(0);
    let native = lab.state().routing == Routing::Native;
    for n in [0, 1] {
        let _server = OnNode::start(&lab, n);
        for ip in lab.node_ips(n) {
            let seen = reach::seen_as(&pod.network, SocketAddr::new(ip, NODE_PORT)).unwrap();
            // In VXLAN the underlay need not carry pods' addresses: another node sees the pod's node.
            let expected = if n == 0 || native { pod.like(ip) } else { of_family(&lab.node_ips(0), ip).unwrap() };
            assert_eq!(seen, expected, "at node {n}, {ip}");
        }
    }
}

#[test]
fn pods_see_nodes_as_the_routing_says() {
    let lab = Lab::open();
    let workload = lab.workload("out-hosts");
    let pod = lab.servers(&workload, &[("a", 0)]).remove(0);
    let native = lab.state().routing == Routing::Native;
    for n in [0, 1] {
        let ledger = lab.api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{}", lab.node(n))).unwrap();
        let entries = ledger["spec"]["addresses"].as_array().unwrap().clone();
        let kind = |wanted: &str| -> Vec<IpAddr> {
            let of_kind = entries.iter().filter(|entry| entry["type"] == wanted);
            of_kind.map(|entry| entry["ip"].as_str().unwrap().parse().unwrap()).collect()
        };
        for target in pod.everywhere() {
            let seen = reach::seen_as(&lab.node_network(n), target).unwrap();
            let overlay = kind("CiliumInternalIP");
            let expected = if n == 0 {
                [overlay, kind("InternalIP")].concat()
            } else if native {
                kind("InternalIP")
            } else {
                overlay
            };
            assert!(expected.contains(&seen), "node {n} is seen as {seen} at {target}, not {expected:?}");
        }
    }
}
