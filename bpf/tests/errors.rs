//! ICMP errors about flows through services: each end is told in the terms that it knows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::SocketAddr;

use axoneme_bpf::inet::Direction;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK};
use common::kernel::{Kernel, Verdict};
use common::node::{self, CLIENT_POLICY, Net, at, isolating, normal, rule};
use common::packet::{self, ACK, SYN, Seen, TCP, UDP};

fn frontend(net: Net) -> SocketAddr {
    at(net.cluster_ip(), 80)
}

fn client(net: Net) -> SocketAddr {
    at(net.client(), 40000)
}

/// A node with a service of one backend, which the client has sent a packet to. Returns that packet as it left the pod, too.
fn with_flow(net: Net, backend: SocketAddr) -> (Kernel, Vec<u8>) {
    let mut kernel = node::kernel();
    for protocol in [TCP, UDP] {
        kernel.service(frontend(net), protocol, 5, 1, &[backend]);
    }
    let (verdict, sent) = kernel.run(FROM_POD, &packet::udp(client(net), frontend(net)));
    assert_ne!(verdict, Verdict::Drop);
    assert_eq!(Seen::read(&sent).destination, backend);
    (kernel, sent)
}

/// Runs a program on an error, and returns who it is from and to, and what it quotes.
fn told(kernel: &mut Kernel, program: &str, error: &[u8]) -> (Seen, (SocketAddr, SocketAddr)) {
    let (verdict, out) = kernel.run(program, error);
    assert_ne!(verdict, Verdict::Drop, "{:?}", kernel.events());
    (Seen::read(&out), packet::quoted(&out))
}

privileged! {
    fn the_client_of_a_service_hears_of_the_frontend() {
        for net in Net::BOTH {
            for backend in [at(net.server(), 8080), at(net.remote(), 8080), at(net.world(), 8080)] {
                let (mut kernel, sent) = with_flow(net, backend);
                let (seen, quoted) = told(&mut kernel, TO_POD, &packet::unreachable(backend.ip(), &sent));
                assert_eq!((seen.source.ip(), seen.destination.ip()), (net.cluster_ip(), net.client()));
                assert_eq!(quoted, (client(net), frontend(net)));

                let (seen, quoted) = told(&mut kernel, TO_POD, &packet::too_big(net.node(), &sent));
                assert_eq!(seen.source.ip(), net.node(), "a router complains in its own name");
                assert_eq!(quoted, (client(net), frontend(net)));
            }
        }
    }
}

privileged! {
    fn errors_about_flows_without_a_service_stay_as_they_are() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let sent = packet::udp(client(net), at(net.world(), 53));
            kernel.forwarded(FROM_POD, &sent);
            let error = packet::too_big(net.node(), &sent);
            assert_eq!(kernel.run(TO_POD, &error), (Verdict::Pass, error));
        }
    }
}

privileged! {
    fn too_big_passes_whatever_the_policy_says() {
        for net in Net::BOTH {
            let (mut kernel, sent) = with_flow(net, at(net.world(), 8080));
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            assert_eq!(told(&mut kernel, TO_POD, &packet::too_big(net.host(), &sent)).1, (client(net), frontend(net)));
            let never_sent = packet::udp(at(net.client(), 40001), at(net.world(), 8080));
            let event = kernel.dropped(TO_POD, &packet::too_big(net.node(), &never_sent));
            assert_eq!(event.reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn a_backend_hears_of_itself_when_the_client_complains_about_its_answer() {
        for net in Net::BOTH {
            for backend in [at(net.server(), 8080), at(net.remote(), 8080), at(net.world(), 8080)] {
                let (mut kernel, _) = with_flow(net, backend);
                let (_, answer) = kernel.run(TO_POD, &packet::udp(backend, client(net)));
                assert_eq!(Seen::read(&answer).source, frontend(net));
                kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
                let (seen, quoted) = told(&mut kernel, FROM_POD, &packet::unreachable(net.client(), &answer));
                assert_eq!((seen.source.ip(), seen.destination.ip()), (net.client(), backend.ip()));
                assert_eq!(quoted, (backend, client(net)));
            }
        }
    }
}

privileged! {
    fn a_masqueraded_service_flow_is_told_of_all_the_way() {
        for net in Net::BOTH {
            let backend = at(net.world(), 8080);
            let (mut kernel, sent) = with_flow(net, backend);
            let (_, on_the_wire) = kernel.run(TO_UPLINK, &sent);
            let (seen, quoted) = told(&mut kernel, FROM_UPLINK, &packet::too_big(net.node(), &on_the_wire));
            assert_eq!(seen.destination.ip(), net.client());
            assert_eq!(quoted, (client(net), frontend(net)));
        }
    }
}

privileged! {
    fn a_pod_that_reaches_itself_hears_of_the_frontend_and_itself() {
        for net in Net::BOTH {
            let (mut kernel, sent) = with_flow(net, at(net.client(), 8080));
            assert_eq!(Seen::read(&sent).source.ip(), net.hairpin());
            let (seen, quoted) = told(&mut kernel, FROM_POD, &packet::unreachable(net.client(), &sent));
            assert_eq!((seen.source.ip(), seen.destination.ip()), (net.cluster_ip(), net.client()));
            assert_eq!(quoted, (client(net), frontend(net)));
        }
    }
}

privileged! {
    fn an_error_about_nothing_known_is_judged_like_any_packet() {
        for net in Net::BOTH {
            let (mut kernel, _) = with_flow(net, at(net.world(), 8080));
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            // A frontend that the client has no flow to.
            let answer = packet::tcp(at(net.cluster_ip(), 80), at(net.client(), 50000), SYN | ACK);
            let event = kernel.dropped(FROM_POD, &packet::unreachable(net.client(), &answer));
            assert_eq!(event.reason, Reason::POLICY_DEFAULT_DENY);
            kernel.rule(rule(CLIENT_POLICY, RulePeer::ANY_WORLD, Direction::EGRESS), normal(Action::ALLOW, 1));
            let error = packet::unreachable(net.client(), &answer);
            assert_eq!(kernel.run(FROM_POD, &error), (Verdict::Pass, error));
        }
    }
}
