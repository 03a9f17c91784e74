//! Services, packet by packet: what bypassed the sockets' translation.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axoneme_bpf::affinity::ClientKind;
use axoneme_bpf::conntrack::CtFlags;
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::{Kernel, Verdict};
use common::node::{self, CLIENT_POLICY, Net, at, isolating, normal, port_rule};
use common::packet::{self, ACK, RST, SYN, Seen, TCP, UDP};

const SERVICE: u32 = 5;

fn frontend(net: Net) -> SocketAddr {
    at(net.cluster_ip(), 80)
}

/// A node with a service of the given backends, on TCP and UDP.
fn with_backends(net: Net, backends: &[SocketAddr]) -> Kernel {
    let mut kernel = node::kernel();
    kernel.service(frontend(net), TCP, SERVICE, 1, backends);
    kernel.service(frontend(net), UDP, SERVICE, 1, backends);
    kernel
}

fn syn(net: Net, port: u16) -> Vec<u8> {
    packet::tcp(at(net.client(), port), frontend(net), SYN)
}

/// The backend that a packet of the client goes to.
fn backend_of(kernel: &mut Kernel, packet: &[u8]) -> SocketAddr {
    kernel.forwarded(FROM_POD, packet).1.destination
}

privileged! {
    fn a_cluster_ip_becomes_a_backend() {
        for net in Net::BOTH {
            for backend in [at(net.server(), 8080), at(net.remote(), 8080), at(net.node(), 8080), at(net.world(), 80)] {
                let mut kernel = with_backends(net, &[backend]);
                for packet in [syn(net, 40000), packet::udp(at(net.client(), 40000), frontend(net))] {
                    let (_, seen) = kernel.forwarded(FROM_POD, &packet);
                    assert_eq!(seen.ends(), (at(net.client(), 40000), backend));
                }
            }
        }
    }
}

privileged! {
    fn service_reply_restores_cluster_ip() {
        for net in Net::BOTH {
            let backend = at(net.world(), 8080);
            let mut kernel = with_backends(net, &[backend]);
            let client = at(net.client(), 40000);
            kernel.forwarded(FROM_POD, &syn(net, 40000));
            let (_, seen) = kernel.forwarded(TO_POD, &packet::tcp(backend, client, SYN | ACK));
            assert_eq!(seen.ends(), (frontend(net), client));

            kernel.forwarded(FROM_POD, &packet::udp(client, frontend(net)));
            let (_, seen) = kernel.forwarded(TO_POD, &packet::udp(backend, client));
            assert_eq!(seen.ends(), (frontend(net), client));
        }
    }
}

privileged! {
    fn the_services_row_is_not_needed_for_replies() {
        let net = Net::V4;
        let backend = at(net.world(), 8080);
        let mut kernel = with_backends(net, &[backend]);
        kernel.forwarded(FROM_POD, &syn(net, 40000));
        kernel.service(frontend(net), TCP, SERVICE, 2, &[]);
        let (_, seen) = kernel.forwarded(TO_POD, &packet::tcp(backend, at(net.client(), 40000), SYN | ACK));
        assert_eq!(seen.source, frontend(net));
    }
}

privileged! {
    fn a_udp_packet_without_checksum_stays_without() {
        let net = Net::V4;
        let mut kernel = with_backends(net, &[at(net.server(), 5353)]);
        let packet = packet::without_udp_checksum(packet::udp(at(net.client(), 40000), frontend(net)));
        let (_, out) = kernel.run(FROM_POD, &packet);
        assert_eq!(Seen::read(&out).destination, at(net.server(), 5353));
        assert_eq!(out[40..42], [0, 0]);
    }
}

privileged! {
    fn a_service_without_backends_is_refused_with_a_reason() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[]);
            let client = at(net.client(), 40000);
            let large = packet::datagram(client, frontend(net), &[7; 600]);
            for packet in [syn(net, 40000), packet::udp(client, frontend(net)), large] {
                kernel.events();
                let (verdict, out) = kernel.run(FROM_POD, &packet);
                let [event] = kernel.events()[..] else { panic!("one event for one drop") };
                assert_eq!((event.reason, event.direction), (Reason::NO_SERVICE_BACKEND, Direction::EGRESS));
                assert_eq!(event.destination.to_ip(event.family), Some(net.cluster_ip()));

                assert_eq!(verdict, Verdict::Redirect, "it hears of it");
                let answer = Seen::read(&out);
                assert_eq!((answer.source.ip(), answer.destination.ip()), (net.cluster_ip(), net.client()));
                assert_eq!(packet::quoted(&out), (client, frontend(net)));
            }
        }
    }
}

privileged! {
    fn a_flow_keeps_its_backend() {
        for net in Net::BOTH {
            let backends: Vec<_> = (0..16).map(|i| at(net.remote(), 8000 + i)).collect();
            let mut kernel = with_backends(net, &backends);
            for packet in [syn(net, 40000), packet::udp(at(net.client(), 40000), frontend(net))] {
                let first = backend_of(&mut kernel, &packet);
                for _ in 0..20 {
                    assert_eq!(backend_of(&mut kernel, &packet), first);
                }
            }
        }
    }
}

privileged! {
    fn every_backend_gets_flows() {
        let net = Net::V4;
        let backends: Vec<_> = (0..4).map(|i| at(net.remote(), 8000 + i)).collect();
        let mut kernel = with_backends(net, &backends);
        let seen: BTreeSet<_> = (0..200).map(|i| backend_of(&mut kernel, &syn(net, 40000 + i))).collect();
        assert_eq!(seen.len(), 4);
    }
}

privileged! {
    fn an_established_connection_stays_with_a_backend_that_was_removed() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[at(net.remote(), 8001)]);
            backend_of(&mut kernel, &syn(net, 40000));
            kernel.service(frontend(net), TCP, SERVICE, 2, &[at(net.server(), 8002)]);
            let data = packet::tcp(at(net.client(), 40000), frontend(net), ACK);
            assert_eq!(backend_of(&mut kernel, &data), at(net.remote(), 8001));
        }
    }
}

privileged! {
    fn a_new_connection_of_the_same_port_leaves_a_removed_backend() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[at(net.remote(), 8001)]);
            backend_of(&mut kernel, &syn(net, 40000));
            kernel.service(frontend(net), TCP, SERVICE, 2, &[at(net.server(), 8002)]);
            assert_eq!(backend_of(&mut kernel, &syn(net, 40000)), at(net.server(), 8002));
        }
    }
}

privileged! {
    fn udp_leaves_a_removed_backend_and_stays_with_one_that_only_moved() {
        for net in Net::BOTH {
            let packet = packet::udp(at(net.client(), 40000), frontend(net));
            let first = at(net.remote(), 8001);
            let mut kernel = with_backends(net, &[first]);
            assert_eq!(backend_of(&mut kernel, &packet), first);
            let others: Vec<_> = (0..9).map(|i| at(net.server(), 9000 + i)).collect();
            kernel.service(frontend(net), UDP, SERVICE, 2, &[others.as_slice(), &[first]].concat());
            for _ in 0..10 {
                assert_eq!(backend_of(&mut kernel, &packet), first, "it has another index now");
            }
            kernel.service(frontend(net), UDP, SERVICE, 3, &others);
            assert_ne!(backend_of(&mut kernel, &packet), first);
        }
    }
}

privileged! {
    fn policy_sees_the_backend() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[at(net.remote(), 8080)]);
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 3));
            let event = kernel.dropped(FROM_POD, &syn(net, 40000));
            assert_eq!(event.destination.to_ip(event.family), Some(net.remote()));
            let remote = RulePeer::identity(node::REMOTE_IDENTITY);
            kernel.rule(port_rule(CLIENT_POLICY, remote, Direction::EGRESS, TCP, 8080), normal(Action::ALLOW, 1));
            assert_eq!(kernel.run(FROM_POD, &syn(net, 40000)).0, Verdict::Redirect);
        }
    }
}

privileged! {
    fn hairpin_to_itself() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[at(net.client(), 8080)]);
            // A policy never keeps a pod from itself.
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 3));
            let client = at(net.client(), 40000);
            let cases: [fn(SocketAddr, SocketAddr) -> Vec<u8>; 2] =
                [|source, destination| packet::tcp(source, destination, SYN), packet::udp];
            for make in cases {
                let (verdict, seen) = kernel.forwarded(FROM_POD, &make(client, frontend(net)));
                assert_eq!(verdict, Verdict::Redirect);
                assert_eq!(seen.ends(), (at(net.hairpin(), 40000), at(net.client(), 8080)));
                assert_eq!(seen.destination_mac, node::client().pod_mac, "back into the same pod");

                let (verdict, seen) = kernel.forwarded(FROM_POD, &make(at(net.client(), 8080), at(net.hairpin(), 40000)));
                assert_eq!(verdict, Verdict::Redirect);
                assert_eq!(seen.ends(), (frontend(net), client));
                assert_eq!(seen.destination_mac, node::client().pod_mac);
            }
        }
    }
}

privileged! {
    fn nobody_reaches_the_hairpin_address_without_a_flow() {
        for net in Net::BOTH {
            let packet = packet::udp(at(net.client(), 8080), at(net.hairpin(), 40000));
            assert_eq!(node::kernel().dropped(FROM_POD, &packet).reason, Reason::NO_ENDPOINT);
        }
    }
}

privileged! {
    fn a_connection_that_was_reset_does_not_hold_its_entry() {
        let net = Net::V4;
        let mut kernel = with_backends(net, &[at(net.remote(), 8001)]);
        backend_of(&mut kernel, &syn(net, 40000));
        backend_of(&mut kernel, &packet::tcp(at(net.client(), 40000), frontend(net), RST));
        let key = Tuple::new(Direction::SERVICE, TCP, (net.client(), 40000), (net.cluster_ip(), 80));
        let ct = kernel.ct(key).unwrap();
        assert!(ct.flags.contains(CtFlags::CLOSED_ORIGINAL | CtFlags::CLOSED_REPLY));
    }
}

privileged! {
    fn other_ports_of_a_cluster_ip_do_not_leave_the_node() {
        for net in Net::BOTH {
            let mut kernel = with_backends(net, &[at(net.remote(), 8001)]);
            let (client, other_port) = (at(net.client(), 40000), at(net.cluster_ip(), 81));
            for packet in [
                packet::tcp(client, other_port, SYN),
                packet::udp(client, other_port),
                packet::echo(net.client(), net.cluster_ip(), 7, false),
            ] {
                // As long as nobody said whose the address is, it is the world's.
                kernel.delete_service(at(net.cluster_ip(), 0), 0);
                assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet.clone()));
                kernel.service(at(net.cluster_ip(), 0), 0, 6, 1, &[]);
                kernel.forget_flows();
                for _ in 0..2 {
                    let event = kernel.dropped(FROM_POD, &packet);
                    assert_eq!((event.reason, event.direction), (Reason::NO_SERVICE, Direction::EGRESS));
                }
            }
            assert_eq!(backend_of(&mut kernel, &syn(net, 40001)), at(net.remote(), 8001), "its own port is there");
        }
    }
}

privileged! {
    fn a_client_that_comes_again_in_time_gets_the_backend_that_it_had() {
        for net in Net::BOTH {
            let mut backends: Vec<_> = (0..16).map(|i| at(net.remote(), 8000 + i)).collect();
            let mut kernel = with_backends(net, &backends);
            kernel.set_affinity(frontend(net), TCP, 60);
            let mut ports = 40_000..;
            let mut comes = |kernel: &mut Kernel| backend_of(kernel, &syn(net, ports.next().unwrap()));
            let first = comes(&mut kernel);
            for _ in 0..20 {
                kernel.age_affinities(50);
                assert_eq!(comes(&mut kernel), first);
            }

            backends.rotate_left(3);
            kernel.service(frontend(net), TCP, SERVICE, 2, &backends);
            kernel.set_affinity(frontend(net), TCP, 60);
            assert_eq!(comes(&mut kernel), first, "it has another number now");

            backends.retain(|backend| *backend != first);
            kernel.service(frontend(net), TCP, SERVICE, 3, &backends);
            kernel.set_affinity(frontend(net), TCP, 60);
            let second = comes(&mut kernel);
            assert_ne!(second, first, "it is gone");
            assert_eq!(comes(&mut kernel), second);

            let mut late = |kernel: &mut Kernel| {
                kernel.age_affinities(61);
                comes(kernel)
            };
            let seen: BTreeSet<_> = (0..40).map(|_| late(&mut kernel)).collect();
            assert!(seen.len() > 1, "who comes late is nobody's client any more");
        }
    }
}

privileged! {
    fn clients_and_services_have_affinities_of_their_own() {
        let net = Net::V4;
        let backends: Vec<_> = (0..16).map(|i| at(net.remote(), 8000 + i)).collect();
        let mut kernel = with_backends(net, &backends);
        kernel.set_affinity(frontend(net), TCP, 60);
        backend_of(&mut kernel, &syn(net, 40000));
        let seen: BTreeSet<_> =
            (0..40).map(|i| backend_of(&mut kernel, &packet::udp(at(net.client(), 40000 + i), frontend(net)))).collect();
        assert!(seen.len() > 1, "another port of the service has none");
        let [(key, affinity)] = kernel.affinities()[..] else { panic!("one client, one service") };
        assert_eq!((key.kind, key.client, key.service), (ClientKind::ADDRESS, net.client().into(), SERVICE));
        assert!(backends.contains(&SocketAddr::new(affinity.address.to_ip(key.family).unwrap(), affinity.port.get())));
    }
}
