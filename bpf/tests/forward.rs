//! From a pod to the underlay past the host's stack: neighbours, routes, and what is too long for them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::{Direction, Inet};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::FROM_POD;
use common::kernel::{Kernel, Verdict};
use common::node::{self, Net, at};
use common::{netns, packet};

/// A node whose pods are routed, not tunnelled.
fn native() -> Kernel {
    let mut kernel = node::kernel();
    let config = node::config();
    kernel.config(Config { flags: config.flags | ConfigFlags::NATIVE_ROUTING, pod_mtu: 1500, ..config });
    kernel
}

/// A packet of this length with its Ethernet header.
fn packet_of(net: Net, destination: std::net::IpAddr, length: usize) -> Vec<u8> {
    let headers = packet::datagram(at(net.client(), 40000), at(destination, 53), b"").len();
    packet::datagram(at(net.client(), 40000), at(destination, 53), &vec![7; length - headers])
}

privileged! {
    fn pods_and_nodes_that_are_neighbours_are_reached_without_asking_for_routes() {
        for net in Net::BOTH {
            let mut kernel = native();
            for destination in [net.remote(), net.node_overlay(), net.node()] {
                let row = Address::pod(node::REMOTE_IDENTITY, net.node()).direct(2);
                kernel.address(destination, row);
                // The host has no route and does not forward.
                let (verdict, seen) = kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(destination, 53)));
                assert_eq!((verdict, seen.ttl), (Verdict::Redirect, 63));
                assert_eq!(seen.ends(), (at(net.client(), 40000), at(destination, 53)));
            }
            let length = if net == Net::V4 { 24 } else { 64 };
            kernel.cidr(net.unlisted(), length, Address::pod(0, net.node()).direct(2));
            let (verdict, _) = kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(net.unlisted(), 53)));
            assert_eq!(verdict, Verdict::Redirect, "and pods that are not listed");
        }
    }
}

privileged! {
    fn ipv4_goes_to_a_neighbour_that_is_known_by_ipv6_and_ipv6_not_the_other_way() {
        let mut kernel = native();
        let row = |tunnel| Address::pod(node::REMOTE_IDENTITY, tunnel).direct(2);
        kernel.address(Net::V4.remote(), row(Net::V6.node()));
        let packet = packet::udp(at(Net::V4.client(), 40000), at(Net::V4.remote(), 53));
        assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Redirect);
        kernel.address(Net::V6.remote(), row(Net::V4.node()));
        let packet = packet::udp(at(Net::V6.client(), 40000), at(Net::V6.remote(), 53));
        assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet), "nobody knows a route");
    }
}

privileged! {
    fn the_hosts_routes_lead_to_all_others() {
        for net in Net::BOTH {
            let mut kernel = native();
            netns::open(1500);
            for destination in [net.remote(), net.unlisted(), net.node(), net.world()] {
                let (verdict, seen) = kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(destination, 53)));
                assert_eq!((verdict, seen.ttl), (Verdict::Redirect, 63), "{destination}");
            }
            assert_eq!(kernel.count(Reason::FORWARDED, Direction::EGRESS), 4);
        }
    }
}

privileged! {
    fn with_tunnels_the_world_and_other_nodes_are_reached_that_way_too() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            netns::open(1500);
            for destination in [net.node(), net.world()] {
                let (verdict, seen) = kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(destination, 53)));
                assert_eq!((verdict, seen.ttl), (Verdict::Redirect, 63), "{destination}");
            }
        }
    }
}

privileged! {
    fn the_host_multicast_and_neighbours_on_the_link_stay_the_stacks() {
        for net in Net::BOTH {
            let mut kernel = native();
            netns::open(1500);
            let others = match net {
                Net::V4 => ["224.0.0.251", "255.255.255.255", "192.0.2.255", "169.254.1.1", "127.0.0.1"],
                Net::V6 => ["ff02::fb", "ff0e::1", "fe80::1", "::1", "2001:db8::1"],
            };
            for destination in others.map(|text| text.parse().unwrap()).into_iter().chain([net.host()]) {
                let packet = packet::udp(at(net.client(), 40000), at(destination, 5353));
                assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet), "{destination}");
            }
        }
    }
}

privileged! {
    fn the_last_hop_is_left_to_the_stack_which_tells_the_pod() {
        for net in Net::BOTH {
            for new in [node::kernel, native] {
                let mut kernel = new();
                netns::open(1500);
                for destination in [net.remote(), net.world()] {
                    let packet = packet::with_ttl(packet::udp(at(net.client(), 40000), at(destination, 53)), 1);
                    assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet), "{destination}");
                }
            }
        }
    }
}

privileged! {
    fn a_packet_too_long_for_the_way_is_left_to_the_stack_which_tells_the_pod() {
        for net in Net::BOTH {
            let tunnel = {
                let mut kernel = node::kernel();
                kernel.config(Config { pod_mtu: 1400, ..node::config() });
                kernel
            };
            let mut direct = native();
            direct.config(Config { flags: ConfigFlags::NATIVE_ROUTING, pod_mtu: 1400, ..node::config() });
            direct.address(net.remote(), Address::pod(node::REMOTE_IDENTITY, net.node()).direct(2));
            for mut kernel in [tunnel, direct] {
                let fits = packet_of(net, net.remote(), 14 + 1400);
                assert_eq!(kernel.run(FROM_POD, &fits).0, Verdict::Redirect);
                let too_long = packet_of(net, net.remote(), 14 + 1401);
                assert_eq!(kernel.run(FROM_POD, &too_long), (Verdict::Pass, too_long));
            }
        }
    }
}

privileged! {
    fn the_routes_mtu_counts_on_the_way_to_the_world_not_the_pods() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.config(Config { pod_mtu: 1400, ..node::config() });
            netns::open(1480);
            assert_eq!(kernel.run(FROM_POD, &packet_of(net, net.world(), 14 + 1480)).0, Verdict::Redirect);
            let too_long = packet_of(net, net.world(), 14 + 1481);
            assert_eq!(kernel.run(FROM_POD, &too_long), (Verdict::Pass, too_long));
        }
    }
}

privileged! {
    fn of_a_packet_that_will_be_cut_the_segments_count() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.config(Config { pod_mtu: 1400, ..node::config() });
            netns::open(1400);
            let headers = if net == Net::V4 { 28 } else { 48 };
            for destination in [net.remote(), net.world()] {
                let long = packet_of(net, destination, 3000);
                assert_eq!(kernel.run_segmented(FROM_POD, &long, 1400 - headers).0, Verdict::Redirect);
                assert_eq!(kernel.run_segmented(FROM_POD, &long, 1401 - headers), (Verdict::Pass, long));
            }
        }
    }
}

privileged! {
    fn a_neighbour_is_tunnelled_to_by_the_header_that_the_device_would_write() {
        const ETHERNET: usize = 14;
        const OUTER: usize = 50;
        let (host, peer) = (Net::V4.host(), Net::V4.node());
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.config(Config { node_ipv4: host.into(), ..node::config() });
            kernel.address(net.remote(), Address::pod(node::REMOTE_IDENTITY, peer).direct(2));
            let (source, destination) = (at(net.client(), 40000), at(net.remote(), 53));
            for (inside, outside) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
                let packet = packet::with_ecn(packet::udp(source, destination), inside);
                let (verdict, mut out) = kernel.run(FROM_POD, &packet);
                assert_eq!((verdict, out.len()), (Verdict::Redirect, packet.len() + OUTER));
                // The kernel writes the Ethernet header when it knows the neighbour.
                out[12..ETHERNET].copy_from_slice(&[0x08, 0x00]);

                let outer = packet::Seen::read(&out);
                assert_eq!((outer.source.ip(), outer.ttl), (host, 64));
                assert_eq!(outer.destination, at(peer, node::TUNNEL_PORT));
                assert!(outer.source.port() >= 32768, "{}", outer.source);
                assert_eq!(out[ETHERNET + 1], outside, "congestion {inside}");
                let vxlan = [[8, 0, 0, 0], (node::CLIENT_IDENTITY << 8).to_be_bytes()].concat();
                assert_eq!(out[ETHERNET + 28..][..8], vxlan);

                let inner = packet::Seen::read(&out[OUTER..]);
                assert_eq!((inner.ends(), inner.ttl), ((source, destination), 63));
            }
        }
    }
}

privileged! {
    fn a_neighbour_is_left_to_the_device_over_ipv6_and_without_an_own_address() {
        let packet = packet::udp(at(Net::V4.client(), 40000), at(Net::V4.remote(), 53));
        for (own, peer) in [(Some(Net::V4.host()), Net::V6.node()), (None, Net::V4.node())] {
            let mut kernel = node::kernel();
            kernel.config(Config { node_ipv4: own.map_or(Inet::ZERO, Inet::from), ..node::config() });
            kernel.address(Net::V4.remote(), Address::pod(node::REMOTE_IDENTITY, peer).direct(2));
            let (verdict, out) = kernel.run(FROM_POD, &packet);
            assert_eq!((verdict, out.len()), (Verdict::Redirect, packet.len()));
        }
    }
}
