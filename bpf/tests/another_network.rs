//! Pods of another network beside ours, in VXLAN: as long as a cluster moves, old pods and new ones talk, and nobody takes an old
//! one for anybody of the cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::inet::{Direction, Family, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::cluster::{Cluster, Node};
use common::kernel::Verdict;
use common::netns::Netns;
use common::node::{self, CLIENT_POLICY, Net, at, isolating, normal, rule};
use common::packet::{self, SYN, UDP};
use common::traffic::{datagrams, listen, tcp, udp};

const INGRESS: Direction = Direction::INGRESS;
const WORLD: u32 = 2;
const REMOTE_NODE: u32 = 6;
const MEGABYTE: usize = 1 << 20;

/// An address of the other network.
fn old(net: Net) -> IpAddr {
    if net == Net::V4 { "10.245.1.5".parse().unwrap() } else { "fd45:1::5".parse().unwrap() }
}

/// A pod that another plugin has connected to a node: a veth without programs, a route, no row anywhere.
fn add_old_pod(node: &Node) -> Netns {
    let netns = Netns::new();
    netns.sysctl("ipv6/conf/default/accept_dad", "0");
    node.netns.ip(&format!("link add old0 address 02:00:00:00:ff:05 type veth peer name eth0 netns {}", netns.path()));
    node.netns.ip("link set old0 up");
    netns.ip("link set eth0 up");
    for (net, gateway) in [(Net::V4, "169.254.245.1"), (Net::V6, "fe80::1")] {
        let (pod, bits) = (old(net), net.bits());
        node.netns.ip(&format!("addr add {gateway}/{bits} dev old0"));
        netns.ip(&format!("addr add {pod}/{bits} dev eth0 nodad"));
        netns.ip(&format!("route add {gateway}/{bits} dev eth0"));
        // Who asks for a neighbour with the neighbour's own address hears nothing.
        netns.ip(&format!("neigh add {gateway} lladdr 02:00:00:00:ff:05 dev eth0 nud permanent"));
        netns.ip(&format!("route add default via {gateway} dev eth0 src {pod}"));
        node.netns.ip(&format!("route add {pod}/{bits} dev old0"));
    }
    netns
}

/// Two nodes of which the first has an old pod. The second one has no route to it.
fn cluster() -> (Cluster, Netns) {
    let cluster = Cluster::new();
    let pod = add_old_pod(&cluster.here);
    (cluster, pod)
}

privileged! {
    fn an_old_pod_reaches_new_pods_and_is_answered_through_the_tunnel() {
        let (mut cluster, pod) = cluster();
        for net in Net::BOTH {
            for (name, new, address) in [("its node's", &cluster.client, net.client()), ("the other's", &cluster.remote, net.remote())] {
                let seen = tcp(&pod, &new.netns, 80, at(address, 80), MEGABYTE).unwrap_or_else(|| panic!("TCP to {name}"));
                assert_eq!(seen.client.ip(), old(net), "{name}");
                let seen = udp(&pod, &new.netns, 53, at(address, 53)).unwrap_or_else(|| panic!("UDP to {name}"));
                assert_eq!(seen.client.ip(), old(net), "{name}");
            }
            let seen = udp(&pod, &cluster.remote.netns, 54, at(net.remote(), 54)).expect("once more");
            let flow = Tuple::new(INGRESS, UDP, (seen.client.ip(), seen.client.port()), (net.remote(), 54));
            let ct = cluster.there.kernel.ct(flow).expect("an entry at the other node");
            assert_eq!((ct.peer_identity, ct.via.to_ip(ct.via_family)), (WORLD, Some(net.host())));
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn what_an_old_pod_sends_in_pieces_arrives_and_is_answered_in_pieces() {
        let (cluster, pod) = cluster();
        for net in Net::BOTH {
            let seen = datagrams(&pod, &cluster.remote.netns, 53, at(net.remote(), 53), 5000).expect("an answer");
            assert_eq!(seen.client.ip(), old(net));
        }
    }
}

privileged! {
    fn a_new_pod_reaches_old_pods_by_the_old_networks_routes() {
        let (mut cluster, pod) = cluster();
        for net in Net::BOTH {
            cluster.there.netns.ip(&format!("route add {}/{} via {}", old(net), net.bits(), net.host()));
            let seen = tcp(&cluster.client.netns, &pod, 80, at(old(net), 80), MEGABYTE).expect("of the same node");
            assert_eq!(seen.client.ip(), net.client());
            let seen = tcp(&cluster.remote.netns, &pod, 80, at(old(net), 80), MEGABYTE).expect("of the other node");
            assert_eq!(seen.client.ip(), net.node(), "masqueraded");
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn an_old_network_with_tunnels_of_its_own_hears_answers_through_ours() {
        // As by a tunnel device of the old network, which is no uplink: unmasqueraded, past our programs.
        let (mut cluster, pod) = cluster();
        cluster.here.netns.ip(&format!("link add foreign0 type veth peer name foreign0 netns {}", cluster.there.netns.path()));
        for node in [&cluster.here, &cluster.there] {
            node.netns.ip("link set foreign0 up");
        }
        for net in Net::BOTH {
            let (at_here, at_there) = if net == Net::V4 { ("10.99.0.1", "10.99.0.2") } else { ("fd99::1", "fd99::2") };
            let length = if net == Net::V4 { 24 } else { 64 };
            cluster.here.netns.ip(&format!("addr add {at_here}/{length} dev foreign0 nodad"));
            cluster.there.netns.ip(&format!("addr add {at_there}/{length} dev foreign0 nodad"));
            cluster.there.netns.ip(&format!("route add {}/{} via {at_here}", old(net), net.bits()));
            let seen = tcp(&cluster.remote.netns, &pod, 80, at(old(net), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.remote());
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn an_old_pod_is_the_world_to_the_other_nodes_policies() {
        let (mut cluster, pod) = cluster();
        cluster.there.kernel.policy(3, isolating(3, 50));
        for peer in [RulePeer::ANY_NODE, RulePeer::ANY_POD] {
            cluster.there.kernel.rule(rule(3, peer, INGRESS), normal(Action::ALLOW, 1));
        }
        for net in Net::BOTH {
            assert_eq!(udp(&pod, &cluster.remote.netns, 53, at(net.remote(), 53)), None);
            let event = *cluster.there.kernel.events().last().expect("an event");
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, WORLD));
        }
        cluster.there.kernel.rule(rule(3, RulePeer::ANY_WORLD, INGRESS), normal(Action::ALLOW, 1));
        for net in Net::BOTH {
            assert!(udp(&pod, &cluster.remote.netns, 53, at(net.remote(), 53)).is_some());
        }
    }
}

/// Sends a datagram from an address that is none of the pod's. Returns whether the server got it.
fn lie(liar: &Netns, as_whom: IpAddr, server: &Netns, to: IpAddr) -> bool {
    let net = if as_whom.is_ipv4() { Net::V4 } else { Net::V6 };
    liar.ip(&format!("addr add {as_whom}/{} dev eth0 nodad", net.bits()));
    let listener = listen(server, || UdpSocket::bind((to, 9000)));
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let socket = liar.run(|| UdpSocket::bind((as_whom, 0)).unwrap());
    socket.send_to(b"lie", (to, 9000)).unwrap();
    let came = listener.recv_from(&mut [0; 8]).is_ok();
    liar.ip(&format!("addr del {as_whom}/{} dev eth0", net.bits()));
    came
}

privileged! {
    fn an_old_pod_that_uses_somebody_elses_address_reaches_nobody() {
        let (mut cluster, pod) = cluster();
        let mut lies = 0;
        for net in Net::BOTH {
            // A pod of its node, one of the other node, a node, a node's overlay address.
            cluster.here.kernel.address(net.unlisted(), Address::pod(node::REMOTE_IDENTITY, net.node()));
            for as_whom in [net.server(), net.unlisted(), net.node(), net.node_overlay()] {
                assert!(!lie(&pod, as_whom, &cluster.remote.netns, net.remote()), "as {as_whom}");
                lies += 1;
            }
            for as_whom in [net.server(), net.unlisted()] {
                assert!(!lie(&pod, as_whom, &cluster.client.netns, net.client()), "as {as_whom}, to a pod of its own node");
            }
        }
        let (egress, ingress) = ((Reason::INVALID_SOURCE_IP, Direction::EGRESS, lies), (Reason::INVALID_SOURCE_IP, INGRESS, 4));
        let mut drops = cluster.here.kernel.drops();
        drops.sort_by_key(|(_, direction, _)| direction.0);
        assert_eq!(drops, [ingress, egress]);
        assert_eq!(cluster.there.kernel.drops(), []);
    }
}

privileged! {
    fn who_borrows_the_hosts_address_is_the_world_elsewhere() {
        let (mut cluster, pod) = cluster();
        cluster.there.kernel.policy(3, isolating(3, 50));
        cluster.there.kernel.rule(rule(3, RulePeer::ANY_NODE, INGRESS), normal(Action::ALLOW, 1));
        // Over IPv4, the stack forwards nothing that claims an address of its own.
        let net = Net::V6;
        for as_whom in [net.host(), net.host_overlay()] {
            assert!(!lie(&pod, as_whom, &cluster.remote.netns, net.remote()), "as {as_whom}");
            let event = *cluster.there.kernel.events().last().expect("an event");
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, WORLD));
        }
        assert!(udp(&cluster.here.netns, &cluster.remote.netns, 53, at(net.remote(), 53)).is_some(), "the host itself is a node");
    }
}

privileged! {
    fn what_is_a_pods_at_the_receiver_is_not_the_worlds() {
        let (mut cluster, pod) = cluster();
        for net in Net::BOTH {
            cluster.there.kernel.address(old(net), Address::pod(0, net.host()));
            assert_eq!(udp(&pod, &cluster.remote.netns, 53, at(net.remote(), 53)), None);
        }
        assert_eq!(cluster.there.kernel.drops(), [(Reason::INVALID_IDENTITY, INGRESS, 2)]);
    }
}

privileged! {
    fn only_answers_leave_the_tunnel_for_nobody_of_the_cluster() {
        let (mut cluster, pod) = cluster();
        for net in Net::BOTH {
            // The other node believes that an old pod is a new one of this node.
            cluster.there.kernel.address(old(net), Address::pod(0, net.host()));
            assert_eq!(udp(&cluster.remote.netns, &pod, 53, at(old(net), 53)), None);
        }
        assert_eq!(cluster.here.kernel.drops(), [(Reason::NO_ENDPOINT, INGRESS, 2)]);
    }
}

privileged! {
    fn answers_follow_the_hosts_routes_when_the_node_that_asked_is_gone() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let asked = Tuple::new(INGRESS, UDP, (old(net), 40000), (net.client(), 53));
            let entry = |via| axoneme_bpf::conntrack::Ct {
                expires: u64::MAX,
                generation: 1,
                peer_identity: WORLD,
                via: IpAddr::into(via),
                via_family: Family::of(via),
                ..Default::default()
            };
            let answer = packet::udp(at(net.client(), 53), at(old(net), 40000));
            kernel.set_ct(asked, entry(net.node()));
            assert_eq!(kernel.run(FROM_POD, &answer).0, Verdict::Redirect);
            kernel.set_ct(asked, entry(net.world()));
            assert_eq!(kernel.run(FROM_POD, &answer), (Verdict::Pass, answer), "the stack has no route");
        }
    }
}

privileged! {
    fn a_pods_address_counts_on_the_pods_device_only() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            kernel.rule(rule(CLIENT_POLICY, RulePeer::identity(node::SERVER_IDENTITY), INGRESS), normal(Action::ALLOW, 1));
            let packet = packet::tcp(at(net.server(), 50000), at(net.client(), 80), SYN);
            assert_eq!(kernel.run_from(TO_POD, &packet, node::SERVER_IFINDEX).0, Verdict::Pass);
            assert_eq!(kernel.run_from(TO_POD, &packet, 5).0, Verdict::Drop);
            assert_eq!(kernel.events()[0].reason, Reason::INVALID_SOURCE_IP);

            // A chained one may come by a bridge; then its own program must have seen it.
            kernel.endpoint(node::SERVER_IFINDEX, Endpoint { flags: EndpointFlags::CHAINED, ..node::server() });
            assert_eq!(kernel.run_from(TO_POD, &packet, 5).0, Verdict::Drop);
            let mark = |identity: u32| identity << 16 | 0x0f00 | identity >> 16;
            assert_eq!(kernel.run_marked_from(TO_POD, &packet, mark(node::SERVER_IDENTITY), 5).0, Verdict::Pass);
            assert_eq!(kernel.run_marked_from(TO_POD, &packet, mark(node::REMOTE_IDENTITY), 5).0, Verdict::Drop);
        }
    }
}

privileged! {
    fn another_nodes_pods_come_by_the_tunnel_only_where_all_are_tunnelled() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for source in [net.remote(), net.unlisted(), net.node_overlay()] {
                let packet = packet::tcp(at(source, 50000), at(net.client(), 80), SYN);
                assert_eq!(kernel.run_from(TO_POD, &packet, node::config().tunnel_ifindex).0, Verdict::Pass, "{source}");
                assert_eq!(kernel.run_from(TO_POD, &packet, 5).0, Verdict::Drop, "{source}");
                assert_eq!(kernel.events()[0].reason, Reason::INVALID_SOURCE_IP);
            }
            for flags in [ConfigFlags::default(), ConfigFlags::NATIVE_ROUTING | node::config().flags] {
                kernel.config(Config { flags, ..node::config() });
                let packet = packet::tcp(at(net.remote(), 50000), at(net.client(), 80), SYN);
                assert_eq!(kernel.run_from(TO_POD, &packet, 5).0, Verdict::Pass, "{flags:?}");
            }
        }
    }
}

privileged! {
    fn a_flow_of_the_world_is_judged_as_such_by_its_answers_too() {
        // Somebody behind a node's address has asked; then the policy changes, and the answer is the first to meet it.
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            kernel.rule(rule(CLIENT_POLICY, RulePeer::ANY_NODE, INGRESS), normal(Action::ALLOW, 1));
            let asked = Tuple::new(INGRESS, UDP, (net.node_overlay(), 40000), (net.client(), 53));
            let entry = |peer_identity| axoneme_bpf::conntrack::Ct { expires: u64::MAX, generation: 8, peer_identity, ..Default::default() };
            let answer = packet::udp(at(net.client(), 53), at(net.node_overlay(), 40000));
            kernel.set_ct(asked, entry(WORLD));
            assert_eq!(kernel.dropped(FROM_POD, &answer).reason, Reason::POLICY_DEFAULT_DENY);
            kernel.set_ct(asked, entry(REMOTE_NODE));
            assert_ne!(kernel.run(FROM_POD, &answer).0, Verdict::Drop, "a node's own flow");
        }
    }
}
