//! Services for clients outside of the cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::{IpAddr, SocketAddr};

use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_UPLINK};
use axoneme_bpf::service::{Service, ServiceFlags, ServiceKey};
use common::cluster::{Cluster, Routing};
use common::kernel::{Kernel, Verdict};
use common::netns;
use common::node::{self, Net, SERVER_POLICY, at, isolating, normal, port_rule};
use common::packet::{self, ACK, SYN, Seen, TCP, UDP};
use common::traffic::{datagrams, tcp, udp};

const SERVICE: u32 = 5;
const MEGABYTE: usize = 1 << 20;

/// An address that no node has, of a load balancer.
fn vip(net: Net) -> IpAddr {
    if net == Net::V4 { "203.0.113.80".parse().unwrap() } else { "2001:db8:113::80".parse().unwrap() }
}

fn every_node(net: Net) -> IpAddr {
    if net == Net::V4 { [0, 0, 0, 0].into() } else { [0; 16].into() }
}

fn client(net: Net) -> SocketAddr {
    at(net.world(), 50000)
}

fn open(kernel: &mut Kernel, frontend: SocketAddr, backends: &[SocketAddr]) {
    for protocol in [TCP, UDP] {
        let key = ServiceKey::new(frontend.ip(), frontend.port(), protocol);
        let service = Service { id: SERVICE, revision: 1, flags: ServiceFlags::OUTSIDE, ..Service::default() };
        kernel.service_with(key, service, backends);
    }
}

/// What clients outside get at a frontend, while others get `all`.
fn apart(kernel: &mut Kernel, frontend: SocketAddr, all: &[SocketAddr], here: &[SocketAddr]) {
    for protocol in [TCP, UDP] {
        let key = ServiceKey::new(frontend.ip(), frontend.port(), protocol);
        let flags = ServiceFlags::OUTSIDE | ServiceFlags::APART;
        kernel.service_with(key, Service { id: SERVICE, revision: 1, flags, ..Service::default() }, all);
        let service = Service { id: SERVICE + 1, revision: 1, flags: ServiceFlags::OUTSIDE, ..Service::default() };
        kernel.service_with(key.apart(), service, here);
    }
}

/// A node that knows a way to the world.
fn kernel() -> Kernel {
    let kernel = node::kernel();
    netns::open(1500);
    kernel
}

fn native(kernel: &mut Kernel) {
    kernel.config(Config { flags: node::config().flags | ConfigFlags::NATIVE_ROUTING, ..node::config() });
}

privileged! {
    fn a_pod_of_the_node_sees_the_client_and_the_client_hears_the_service() {
        for net in Net::BOTH {
            let backend = at(net.server(), 8080);
            for frontend in [at(net.host(), 30080), at(vip(net), 80)] {
                let mut kernel = kernel();
                open(&mut kernel, frontend, &[backend]);
                let requests = [packet::tcp(client(net), frontend, SYN), packet::udp(client(net), frontend)];
                let answers = [packet::tcp(backend, client(net), SYN | ACK), packet::udp(backend, client(net))];
                for (request, answer) in requests.iter().zip(answers) {
                    let (verdict, seen) = kernel.forwarded(FROM_UPLINK, request);
                    assert_eq!(verdict, Verdict::Redirect);
                    assert_eq!(seen.ends(), (client(net), backend));
                    assert_eq!((seen.destination_mac, seen.ttl), (node::server().pod_mac, 63));
                    let (verdict, seen) = kernel.forwarded(TO_UPLINK, &answer);
                    assert_eq!((verdict, seen.ends()), (Verdict::Pass, (frontend, client(net))));
                }
                let flow = Tuple::new(Direction::INGRESS, TCP, (net.world(), 50000), (net.server(), 8080));
                let ct = kernel.ct(flow).expect("an entry");
                assert_eq!((ct.service, ct.client_port.get()), (SERVICE, 50000));
                assert_eq!(kernel.drops(), []);
            }
        }
    }
}

privileged! {
    fn a_port_of_all_nodes_is_found_at_this_nodes_addresses_only() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            open(&mut kernel, at(every_node(net), 30080), &[at(net.server(), 8080)]);
            let request = |address| packet::tcp(client(net), at(address, 30080), SYN);
            assert_eq!(kernel.forwarded(FROM_UPLINK, &request(net.host())).1.destination, at(net.server(), 8080));
            for address in [net.node(), vip(net)] {
                assert_eq!(kernel.run(FROM_UPLINK, &request(address)), (Verdict::Pass, request(address)));
            }
        }
    }
}

privileged! {
    fn what_is_for_the_cluster_alone_is_none_of_the_outsides() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let frontend = at(net.cluster_ip(), 80);
            kernel.service(frontend, TCP, SERVICE, 1, &[at(net.server(), 8080)]);
            let request = packet::tcp(client(net), frontend, SYN);
            assert_eq!(kernel.run(FROM_UPLINK, &request), (Verdict::Pass, request));
        }
    }
}

privileged! {
    fn policy_judges_the_client() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let frontend = at(vip(net), 80);
            open(&mut kernel, frontend, &[at(net.server(), 8080)]);
            kernel.policy(SERVER_POLICY, isolating(SERVER_POLICY, 3));
            for peer in [RulePeer::ANY_NODE, RulePeer::ANY_POD] {
                kernel.rule(port_rule(SERVER_POLICY, peer, Direction::INGRESS, TCP, 8080), normal(Action::ALLOW, 1));
            }
            let request = packet::tcp(client(net), frontend, SYN);
            let event = kernel.dropped(FROM_UPLINK, &request);
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, 2));
            assert_eq!(event.source.to_ip(event.family), Some(net.world()));
            let world = port_rule(SERVER_POLICY, RulePeer::ANY_WORLD, Direction::INGRESS, TCP, 8080);
            kernel.rule(world, normal(Action::ALLOW, 1));
            assert_eq!(kernel.forwarded(FROM_UPLINK, &request).0, Verdict::Redirect);
        }
    }
}

privileged! {
    fn clients_outside_get_what_stands_apart_for_them() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let (near, far) = (at(net.server(), 8080), at(net.remote(), 8080));
            apart(&mut kernel, at(every_node(net), 30080), &[far], &[near]);
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(client(net), at(net.host(), 30080), SYN));
            assert_eq!(seen.ends(), (client(net), near));
            let pod = at(net.client(), 50000);
            let (_, seen) = kernel.forwarded(FROM_POD, &packet::tcp(pod, at(net.node(), 30080), SYN));
            assert_eq!(seen.ends(), (pod, far), "inside nothing is apart");

            apart(&mut kernel, at(vip(net), 80), &[far], &[]);
            let event = kernel.dropped(FROM_UPLINK, &packet::tcp(client(net), at(vip(net), 80), SYN));
            assert_eq!(event.reason, Reason::NO_LOCAL_BACKEND);
        }
    }
}

privileged! {
    fn who_asks_a_service_that_nobody_serves_is_told() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let frontend = at(vip(net), 80);
            open(&mut kernel, frontend, &[]);
            apart(&mut kernel, at(vip(net), 81), &[], &[]);
            for (request, frontend) in [
                (packet::tcp(client(net), frontend, SYN), frontend),
                (packet::udp(client(net), frontend), frontend),
                (packet::udp(client(net), at(vip(net), 81)), at(vip(net), 81)),
            ] {
                let (verdict, out) = kernel.run(FROM_UPLINK, &request);
                assert_eq!(verdict, Verdict::Redirect, "back to where it came from");
                let seen = Seen::read(&out);
                assert_eq!((seen.source.ip(), seen.destination.ip()), (frontend.ip(), net.world()));
                assert_eq!((seen.source_mac, seen.destination_mac), (packet::DESTINATION_MAC, packet::SOURCE_MAC));
                assert_eq!(packet::quoted(&out), (client(net), frontend));
                assert_eq!(kernel.events().last().unwrap().reason, Reason::NO_SERVICE_BACKEND);
            }
        }
    }
}

privileged! {
    fn several_frontends_lead_one_port_of_a_client_to_one_backend() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let backend = at(net.server(), 8080);
            let frontends = [at(vip(net), 80), at(vip(net), 81), at(net.host(), 30080)];
            let cases: [fn(SocketAddr, SocketAddr) -> Vec<u8>; 2] =
                [|source, destination| packet::tcp(source, destination, SYN), packet::udp];
            for make in cases {
                let mut ports = Vec::new();
                for frontend in frontends {
                    open(&mut kernel, frontend, &[backend]);
                    let (_, seen) = kernel.forwarded(FROM_UPLINK, &make(client(net), frontend));
                    assert_eq!((seen.source.ip(), seen.destination), (net.world(), backend));
                    ports.push(seen.source.port());
                }
                assert_eq!(ports[0], 50000);
                assert!(ports[1] != ports[0] && ports[2] != ports[0] && ports[1] != ports[2], "{ports:?}");
                for (frontend, port) in frontends.into_iter().zip(ports) {
                    let (_, seen) = kernel.forwarded(FROM_UPLINK, &make(client(net), frontend));
                    assert_eq!(seen.source.port(), port, "once chosen, it stays");
                    let (_, seen) = kernel.forwarded(TO_UPLINK, &make(backend, at(net.world(), port)));
                    assert_eq!(seen.ends(), (frontend, client(net)));
                }
            }
            // Who talks to the backend itself is somebody else, too.
            kernel.forwarded(FROM_UPLINK, &packet::udp(at(net.world(), 50001), backend));
            let (_, seen) = kernel.forwarded(FROM_UPLINK, &packet::udp(at(net.world(), 50001), frontends[0]));
            assert_ne!(seen.source.port(), 50001);
            let (_, seen) = kernel.forwarded(TO_UPLINK, &packet::udp(backend, at(net.world(), 50001)));
            assert_eq!(seen.source, backend);
        }
    }
}

privileged! {
    fn a_process_of_the_node_sees_the_client_and_the_client_hears_the_service() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            let (frontend, backend) = (at(vip(net), 80), at(net.host(), 8080));
            open(&mut kernel, frontend, &[backend]);
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(client(net), frontend, SYN));
            assert_eq!((verdict, seen.ends()), (Verdict::Pass, (client(net), backend)));
            let (verdict, seen) = kernel.forwarded(TO_UPLINK, &packet::tcp(backend, client(net), SYN | ACK));
            assert_eq!((verdict, seen.ends()), (Verdict::Pass, (frontend, client(net))));
            let other = packet::tcp(backend, at(net.world(), 50001), SYN | ACK);
            assert_eq!(kernel.run(TO_UPLINK, &other), (Verdict::Pass, other), "nobody's but the host's own");
        }
    }
}

privileged! {
    fn another_nodes_backend_sees_this_node_and_answers_to_it() {
        for net in Net::BOTH {
            for backend in [at(net.node(), 8080), at(net.remote(), 8080)] {
                let mut kernel = kernel();
                native(&mut kernel);
                let frontend = at(vip(net), 80);
                open(&mut kernel, frontend, &[backend]);
                let request = packet::tcp(client(net), frontend, SYN);
                let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &request);
                // A way to the node is there, to its pods it is not.
                if verdict == Verdict::Redirect {
                    assert_eq!(seen.ends(), (at(net.host(), 50000), backend));
                }
                let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(backend, at(net.host(), 50000), SYN | ACK));
                assert_eq!((verdict, seen.ends()), (Verdict::Redirect, (frontend, client(net))));
                assert_eq!(kernel.drops(), []);
            }
        }
    }
}

privileged! {
    fn errors_are_told_to_who_sent_what_they_quote() {
        for net in Net::BOTH {
            let frontend = at(vip(net), 80);
            let router: IpAddr = if net == Net::V4 { "192.0.2.254".parse().unwrap() } else { "2001:db8::fe".parse().unwrap() };
            for backend in [at(net.server(), 8080), at(net.host(), 8080), at(net.node(), 8080)] {
                let mut kernel = kernel();
                open(&mut kernel, frontend, &[backend]);
                // The port is taken, so that the backend knows the client by another one.
                open(&mut kernel, at(vip(net), 81), &[backend]);
                kernel.run(FROM_UPLINK, &packet::udp(client(net), at(vip(net), 81)));
                let (_, sent) = kernel.run(FROM_UPLINK, &packet::udp(client(net), frontend));
                let known = Seen::read(&sent).source;
                let answer = packet::udp(frontend, client(net));

                // About what the service answered.
                let (verdict, out) = kernel.run(FROM_UPLINK, &packet::too_big(router, &answer));
                assert_ne!(verdict, Verdict::Drop, "{backend}: {:?}", kernel.events());
                assert_eq!((Seen::read(&out).destination.ip(), packet::quoted(&out)), (backend.ip(), (backend, known)));

                // About what the client sent.
                let error = packet::unreachable(backend.ip(), &sent);
                let program = if backend.ip() == net.node() { FROM_UPLINK } else { TO_UPLINK };
                let (verdict, out) = kernel.run(program, &error);
                assert_ne!(verdict, Verdict::Drop, "{backend}: {:?}", kernel.events());
                let seen = Seen::read(&out);
                assert_eq!((seen.source.ip(), seen.destination.ip()), (frontend.ip(), net.world()), "{backend}");
                assert_eq!(packet::quoted(&out), (client(net), frontend), "{backend}");
            }
        }
    }
}

privileged! {
    fn what_is_too_long_for_the_tunnel_is_answered_before_anything_becomes_of_it() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            kernel.config(Config { pod_mtu: 1400, ..node::config() });
            let frontend = at(vip(net), 80);
            open(&mut kernel, frontend, &[at(net.remote(), 8080)]);
            let (verdict, out) = kernel.run(FROM_UPLINK, &packet::datagram(client(net), frontend, &[0; 1400]));
            assert_eq!(verdict, Verdict::Redirect);
            let seen = Seen::read(&out);
            assert_eq!((seen.source.ip(), seen.destination.ip()), (frontend.ip(), net.world()));
            assert_eq!(packet::quoted(&out), (client(net), frontend));
            let at = 14 + if net == Net::V4 { 20 } else { 40 };
            assert_eq!(out[at..at + 2], if net == Net::V4 { [3, 4] } else { [2, 0] });
            assert_eq!(u32::from_be_bytes(out[at + 4..at + 8].try_into().unwrap()), 1400);
        }
    }
}

privileged! {
    fn clients_outside_reach_every_kind_of_backend_however_nodes_are_connected() {
        for routing in [Routing::Vxlan, Routing::VxlanRouted, Routing::Direct, Routing::Routed] {
            let mut cluster = Cluster::routed(routing);
            let outside = cluster.add_outside();
            for net in Net::BOTH {
                for frontend in [at(net.host(), 30080), at(vip(net), 80)] {
                    for (backend, seen_client) in [
                        (net.server(), net.world()),
                        (net.host(), net.world()),
                        (net.remote(), net.host()),
                        (net.node(), net.host()),
                    ] {
                        let what = format!("{routing:?}: {frontend} to {backend}");
                        cluster.here.kernel.forget_flows();
                        open(&mut cluster.here.kernel, frontend, &[at(backend, 8080)]);
                        let netns = match backend {
                            _ if backend == net.server() => &cluster.server.netns,
                            _ if backend == net.host() => &cluster.here.netns,
                            _ if backend == net.remote() => &cluster.remote.netns,
                            _ => &cluster.there.netns,
                        };
                        let seen = udp(&outside, netns, 8080, frontend).unwrap_or_else(|| {
                            panic!("{what}, UDP: {:?} {:?}", cluster.here.kernel.drops(), cluster.there.kernel.drops())
                        });
                        assert_eq!((seen.client.ip(), seen.server), (seen_client, frontend), "{what}");
                        let seen = tcp(&outside, netns, 8080, frontend, MEGABYTE).unwrap_or_else(|| panic!("{what}, TCP"));
                        assert_eq!((seen.client.ip(), seen.server), (seen_client, frontend), "{what}");
                    }
                }
            }
            assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]), "{routing:?}");
        }
    }
}

privileged! {
    fn large_datagrams_of_clients_outside_arrive_and_are_answered() {
        for routing in [Routing::Vxlan, Routing::Direct] {
            let mut cluster = Cluster::routed(routing);
            let outside = cluster.add_outside();
            for net in Net::BOTH {
                let frontend = at(vip(net), 80);
                for backend in [net.server(), net.remote()] {
                    cluster.here.kernel.forget_flows();
                    open(&mut cluster.here.kernel, frontend, &[at(backend, 8080)]);
                    let pod = if backend == net.server() { &cluster.server } else { &cluster.remote };
                    let seen = datagrams(&outside, &pod.netns, 8080, frontend, 5000);
                    let drops = (cluster.here.kernel.drops(), cluster.there.kernel.drops());
                    assert_eq!(seen.map(|seen| seen.server), Some(frontend), "{routing:?} {backend} {drops:?}");
                }
            }
        }
    }
}
