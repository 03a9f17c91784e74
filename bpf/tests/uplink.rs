//! The underlay: masquerading out, replies in, and what must not come from the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::SocketAddr;

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::{Direction, Inet, Port, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::nat::Nat;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK};
use common::kernel::{Kernel, Verdict};
use common::node::{self, CLIENT_POLICY, Net, at, isolating, normal, rule};
use common::packet::{self, ACK, SYN, TCP, UDP};

/// A packet of the client on its way out: as the pod sends it, then as the wire gets it.
fn leaves(kernel: &mut Kernel, packet: &[u8]) -> packet::Seen {
    let (verdict, _) = kernel.forwarded(FROM_POD, packet);
    assert_eq!(verdict, Verdict::Pass);
    let (verdict, seen) = kernel.forwarded(TO_UPLINK, packet);
    assert_eq!(verdict, Verdict::Pass);
    seen
}

fn client(net: Net, port: u16) -> SocketAddr {
    at(net.client(), port)
}

privileged! {
    fn a_pod_leaves_with_the_nodes_address_and_its_own_port() {
        for net in Net::BOTH {
            for destination in [at(net.world(), 443), at(net.node(), 443)] {
                let mut kernel = node::kernel();
                for packet in [packet::tcp(client(net, 40000), destination, SYN), packet::udp(client(net, 40000), destination)] {
                    let seen = leaves(&mut kernel, &packet);
                    assert_eq!(seen.ends(), (at(net.host(), 40000), destination));
                }
            }
        }
    }
}

privileged! {
    fn the_reply_finds_its_pod() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let server = at(net.world(), 443);
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 3));
            kernel.rule(rule(CLIENT_POLICY, RulePeer::ANY_WORLD, Direction::EGRESS), normal(Action::ALLOW, 1));
            leaves(&mut kernel, &packet::tcp(client(net, 40000), server, SYN));
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(server, at(net.host(), 40000), SYN | ACK));
            assert_eq!(verdict, Verdict::Redirect);
            assert_eq!(seen.ends(), (server, client(net, 40000)));
            assert_eq!((seen.destination_mac, seen.ttl), (node::client().pod_mac, 63));

            leaves(&mut kernel, &packet::udp(client(net, 40001), server));
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::udp(server, at(net.host(), 40001)));
            assert_eq!(seen.ends(), (server, client(net, 40001)));
        }
    }
}

privileged! {
    fn the_reply_of_a_service_outside_the_cluster_restores_its_cluster_ip() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let (frontend, backend) = (at(net.cluster_ip(), 80), at(net.world(), 8080));
            kernel.service(frontend, TCP, 5, 1, &[backend]);
            let (_, out) = kernel.run(FROM_POD, &packet::tcp(client(net, 40000), frontend, SYN));
            kernel.forwarded(TO_UPLINK, &out);
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(backend, at(net.host(), 40000), SYN | ACK));
            assert_eq!(seen.ends(), (frontend, client(net, 40000)));
        }
    }
}

privileged! {
    fn pings_are_masqueraded_by_id() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let seen = leaves(&mut kernel, &packet::echo(net.client(), net.world(), 40007, false));
            assert_eq!(seen.ends(), (at(net.host(), 40007), at(net.world(), 40007)));
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::echo(net.world(), net.host(), 40007, true));
            assert_eq!(verdict, Verdict::Redirect);
            assert_eq!(seen.ends(), (at(net.world(), 40007), client(net, 40007)));

            // An id outside the range gets another one, and its reply gets it back.
            let seen = leaves(&mut kernel, &packet::echo(net.client(), net.world(), 7, false));
            let id = seen.source.port();
            assert!((32768..=60999).contains(&id), "{id}");
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::echo(net.world(), net.host(), id, true));
            assert_eq!(seen.ends(), (at(net.world(), 7), client(net, 7)));

            let ping = packet::echo(net.world(), net.host(), 40007, false);
            assert_eq!(kernel.run(FROM_UPLINK, &ping), (Verdict::Pass, ping), "somebody pings the node");
        }
    }
}

privileged! {
    fn a_flow_keeps_its_port() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let packet = packet::tcp(client(net, 1024), at(net.world(), 443), SYN);
            let first = leaves(&mut kernel, &packet).source;
            assert_ne!(first.port(), 1024, "outside the range");
            for _ in 0..10 {
                assert_eq!(leaves(&mut kernel, &packet).source, first);
            }
        }
    }
}

privileged! {
    fn two_pods_with_the_same_port_get_different_ones() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let server = at(net.world(), 443);
            let (_, first) = kernel.forwarded(TO_UPLINK, &packet::tcp(client(net, 40000), server, SYN));
            let (_, second) = kernel.forwarded(TO_UPLINK, &packet::tcp(at(net.server(), 40000), server, SYN));
            assert_eq!(first.source.port(), 40000);
            assert_ne!(second.source.port(), 40000);
            // Towards another destination the port is free.
            let (_, third) = kernel.forwarded(TO_UPLINK, &packet::tcp(at(net.server(), 40000), at(net.world(), 444), SYN));
            assert_eq!(third.source.port(), 40000);
        }
    }
}

privileged! {
    fn the_hosts_own_flows_and_pods_do_not_take_each_others_ports() {
        for net in Net::BOTH {
            let server = at(net.world(), 443);
            let (host, pod) = (packet::tcp(at(net.host(), 40000), server, SYN), packet::tcp(client(net, 40000), server, SYN));

            let mut kernel = node::kernel();
            assert_eq!(kernel.run(TO_UPLINK, &host), (Verdict::Pass, host.clone()), "the host keeps its port");
            let (_, seen) = kernel.forwarded(TO_UPLINK, &pod);
            assert_ne!(seen.source.port(), 40000);
            let reply = packet::tcp(server, at(net.host(), 40000), SYN | ACK);
            assert_eq!(kernel.run(FROM_UPLINK, &reply), (Verdict::Pass, reply.clone()), "the host's reply");

            let mut kernel = node::kernel();
            kernel.forwarded(FROM_POD, &pod);
            kernel.forwarded(TO_UPLINK, &pod);
            let (_, seen) = kernel.forwarded(TO_UPLINK, &host);
            let moved = seen.source;
            assert_ne!(moved.port(), 40000, "the pod has it");
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &reply);
            assert_eq!(seen.destination, client(net, 40000));
            let (verdict, out) = kernel.run(FROM_UPLINK, &packet::tcp(server, moved, SYN | ACK));
            assert_eq!((verdict, out), (Verdict::Pass, reply), "to the port that the host's socket has");
        }
    }
}

privileged! {
    fn when_every_port_is_taken_the_flow_is_dropped_with_a_reason() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.config(Config { nat_port_min: 40000, nat_port_max: 40001, ..node::config() });
            let key = |port| Tuple::new(Direction::INGRESS, UDP, (net.world(), 53), (net.host(), port));
            for port in [40000, 40001] {
                let taken = Nat { expires: u64::MAX, address: net.server().into(), port: Port::new(9), ..Nat::default() };
                kernel.set_nat(key(port), taken);
            }
            let packet = packet::udp(client(net, 40000), at(net.world(), 53));
            assert_eq!(kernel.dropped(TO_UPLINK, &packet).reason, Reason::NAT_NO_PORT);
            let taken = kernel.nat(key(40001)).unwrap();
            kernel.set_nat(key(40001), Nat { expires: 1, ..taken });
            assert_eq!(kernel.forwarded(TO_UPLINK, &packet).1.source.port(), 40001, "its flow is over");
        }
    }
}

privileged! {
    fn a_lost_way_back_is_made_again() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let server = at(net.world(), 443);
            let packet = packet::udp(client(net, 40000), server);
            leaves(&mut kernel, &packet);
            let key = Tuple::new(Direction::INGRESS, UDP, (net.world(), 443), (net.host(), 40000));
            let way_back = kernel.nat(key).unwrap();
            kernel.set_nat(key, Nat { expires: 1, ..way_back });
            leaves(&mut kernel, &packet);
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::udp(server, at(net.host(), 40000)));
            assert_eq!(seen.destination, client(net, 40000));
        }
    }
}

privileged! {
    fn replies_of_connections_from_outside_are_never_masqueraded() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let outside = at(net.world(), 50000);
            assert_eq!(kernel.run_from(TO_POD, &packet::tcp(outside, client(net, 80), SYN), 2).0, Verdict::Pass);
            let reply = packet::tcp(client(net, 80), outside, SYN | ACK);
            assert_eq!(kernel.run(TO_UPLINK, &reply), (Verdict::Pass, reply));
        }
    }
}

privileged! {
    fn nothing_is_masqueraded_where_that_is_off() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.config(Config { flags: ConfigFlags::default(), ..node::config() });
            let packet = packet::udp(client(net, 40000), at(net.world(), 53));
            assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, packet));
        }
    }
}

privileged! {
    fn native_routing_masquerades_only_towards_the_world() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let config = node::config();
            kernel.config(Config { flags: config.flags | ConfigFlags::NATIVE_ROUTING, ..config });
            for destination in [net.remote(), net.unlisted(), net.node()] {
                let packet = packet::udp(client(net, 40000), at(destination, 53));
                assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, packet), "{destination}");
            }
            let packet = packet::udp(client(net, 40000), at(net.world(), 53));
            assert_eq!(kernel.forwarded(TO_UPLINK, &packet).1.source.ip(), net.host());
        }
    }
}

privileged! {
    fn packets_for_other_nodes_pods_never_leave_untunnelled() {
        for net in Net::BOTH {
            let packet = packet::udp(client(net, 40000), at(net.remote(), 53));
            assert_eq!(node::kernel().dropped(TO_UPLINK, &packet).reason, Reason::NO_TUNNEL_ENDPOINT);
        }
    }
}

privileged! {
    fn what_cannot_be_masqueraded_is_dropped() {
        for net in Net::BOTH {
            let gre = packet::ip(net.client(), net.world(), 47, vec![0; 8]);
            assert_eq!(node::kernel().dropped(TO_UPLINK, &gre).reason, Reason::NAT_UNSUPPORTED_PROTOCOL);
        }
        let mut kernel = node::kernel();
        kernel.config(Config { node_ipv4: Inet::ZERO, ..node::config() });
        let packet = packet::udp(client(Net::V4, 40000), at(Net::V4.world(), 53));
        assert_eq!(kernel.dropped(TO_UPLINK, &packet).reason, Reason::NAT_NO_MAPPING);
    }
}

privileged! {
    fn this_nodes_own_addresses_do_not_come_from_the_wire() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for source in [net.client(), net.host(), net.host_overlay()] {
                let event = kernel.dropped(FROM_UPLINK, &packet::udp(at(source, 1), at(net.host(), 53)));
                assert_eq!((event.reason, event.direction), (Reason::INVALID_SOURCE_IP, Direction::INGRESS));
            }
        }
    }
}

privileged! {
    fn pods_of_other_nodes_come_plain_only_with_native_routing() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let packet = packet::udp(at(net.remote(), 1), client(net, 53));
            assert_eq!(kernel.dropped(FROM_UPLINK, &packet).reason, Reason::INVALID_SOURCE_IP);
            let config = node::config();
            kernel.config(Config { flags: config.flags | ConfigFlags::NATIVE_ROUTING, ..config });
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet);
            assert_eq!((verdict, seen.destination_mac), (Verdict::Redirect, node::client().pod_mac));
        }
    }
}

privileged! {
    fn a_pod_that_the_underlay_knows_is_reached_from_outside_past_the_stack() {
        for net in Net::BOTH {
            for native in [ConfigFlags::default(), ConfigFlags::NATIVE_ROUTING] {
                let mut kernel = node::kernel();
                kernel.config(Config { flags: node::config().flags | native, ..node::config() });
                let packet = packet::tcp(at(net.world(), 50000), client(net, 80), SYN);
                let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet);
                assert_eq!((verdict, seen.destination_mac, seen.ttl), (Verdict::Redirect, node::client().pod_mac, 63));

                kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
                let event = kernel.dropped(FROM_UPLINK, &packet);
                assert_eq!((event.reason, event.direction), (Reason::POLICY_DEFAULT_DENY, Direction::INGRESS));
            }
        }
    }
}

privileged! {
    fn what_a_switch_floods_is_left_alone() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let mut frame = packet::tcp(at(net.world(), 50000), client(net, 80), SYN);
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 9, 9]);
            assert_eq!(kernel.run(FROM_UPLINK, &frame), (Verdict::Pass, frame));
        }
    }
}

privileged! {
    fn tunnel_packets_and_the_hosts_traffic_pass_untouched() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let packets = [
                packet::udp(at(net.node(), 50000), at(net.host(), node::TUNNEL_PORT)),
                packet::tcp(at(net.world(), 50000), at(net.host(), 22), SYN),
                packet::tcp(at(net.world(), 50000), at(net.host(), 40000), SYN),
                packet::ip(net.world(), net.host(), 47, vec![0; 8]),
            ];
            for packet in packets {
                assert_eq!(kernel.run(FROM_UPLINK, &packet), (Verdict::Pass, packet));
            }
            let packets = [
                packet::udp(at(net.host(), 50000), at(net.node(), node::TUNNEL_PORT)),
                packet::tcp(at(net.host(), 22), at(net.world(), 50000), ACK),
                packet::ip(net.host(), net.world(), 47, vec![0; 8]),
            ];
            for packet in packets {
                assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, packet));
            }
            assert_eq!(kernel.drops(), []);
        }
    }
}

privileged! {
    fn a_reply_for_a_pod_that_is_gone_is_dropped() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let server = at(net.world(), 443);
            leaves(&mut kernel, &packet::udp(client(net, 40000), server));
            kernel.address(net.client(), Address::pod(0, net.node()));
            let reply = packet::udp(server, at(net.host(), 40000));
            assert_eq!(kernel.dropped(FROM_UPLINK, &reply).reason, Reason::NO_ENDPOINT);
        }
    }
}

privileged! {
    fn a_routers_complaint_finds_the_pod_that_sent_the_packet() {
        for net in Net::BOTH {
            let packets = [
                packet::udp(client(net, 1024), at(net.world(), 53)),
                packet::tcp(client(net, 1024), at(net.world(), 53), SYN),
                packet::echo(net.client(), net.world(), 7, false),
            ];
            for packet in packets {
                let mut kernel = node::kernel();
                kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 3));
                kernel.rule(rule(CLIENT_POLICY, RulePeer::ANY_WORLD, Direction::EGRESS), normal(Action::ALLOW, 1));
                kernel.forwarded(FROM_POD, &packet);
                let (_, sent) = kernel.run(TO_UPLINK, &packet);
                assert_ne!(sent, packet);
                // The router is some address of the world, too.
                let (verdict, out) = kernel.run(FROM_UPLINK, &packet::unreachable(net.world(), &sent));
                assert_eq!(verdict, Verdict::Redirect);
                assert_eq!(packet::Seen::read(&out).destination.ip(), net.client());
                assert_eq!(packet::quoted(&out), packet::Seen::read(&packet).ends(), "as the pod sent it");
            }
        }
    }
}

privileged! {
    fn a_pods_complaint_leaves_with_the_nodes_address_in_and_out() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let server = at(net.world(), 53);
            let seen = leaves(&mut kernel, &packet::udp(client(net, 1024), server));
            let reply = packet::udp(server, client(net, 1024));
            let complaint = packet::unreachable(net.client(), &reply);
            assert_eq!(kernel.run(FROM_POD, &complaint).0, Verdict::Pass);
            let (verdict, out) = kernel.run(TO_UPLINK, &complaint);
            assert_eq!(verdict, Verdict::Pass);
            assert_eq!(packet::Seen::read(&out).source.ip(), net.host());
            assert_eq!(packet::quoted(&out), (server, seen.source), "as the server sent it");
        }
    }
}

privileged! {
    fn complaints_about_the_hosts_own_packets_stay_the_hosts() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for port in [40000, 22] {
                let sent = packet::udp(at(net.host(), port), at(net.world(), 53));
                assert_eq!(kernel.run(TO_UPLINK, &sent), (Verdict::Pass, sent.clone()));
                let complaint = packet::unreachable(net.world(), &sent);
                assert_eq!(kernel.run(FROM_UPLINK, &complaint), (Verdict::Pass, complaint));
            }
        }
    }
}
