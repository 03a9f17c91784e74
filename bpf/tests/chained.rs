//! Pods whose device another CNI plugin made: programs judge and translate, the stack delivers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::inet::Direction;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD};
use common::kernel::{Kernel, Verdict};
use common::netns;
use common::node::{self, CLIENT_POLICY, Net, SERVER_POLICY, at, isolating, normal, rule};
use common::packet::{self, SYN, UDP};

/// A node whose client is chained. Its owner chose MACs that nobody was told of.
fn kernel() -> Kernel {
    let mut kernel = node::kernel();
    let unknown = Endpoint { pod_mac: [0; 6], host_mac: [0; 6], ..node::client() };
    kernel.endpoint(node::CLIENT_IFINDEX, Endpoint { flags: EndpointFlags::CHAINED, ..unknown });
    kernel
}

privileged! {
    fn what_a_chained_pod_sends_is_judged_and_delivered_by_the_stack() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            netns::open(1500);
            for destination in [net.server(), net.remote(), net.unlisted(), net.node(), net.world(), net.host()] {
                let packet = packet::udp(at(net.client(), 40000), at(destination, 53));
                assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet), "{destination}");
            }
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            let packet = packet::udp(at(net.client(), 40000), at(net.remote(), 53));
            assert_eq!(kernel.dropped(FROM_POD, &packet).reason, Reason::POLICY_DEFAULT_DENY);
            let spoofed = packet::udp(at(net.server(), 40000), at(net.remote(), 53));
            assert_eq!(kernel.dropped(FROM_POD, &spoofed).reason, Reason::INVALID_SOURCE_IP);
        }
    }
}

privileged! {
    fn services_of_a_chained_pod_are_translated_there_and_back() {
        for net in Net::BOTH {
            for backend in [at(net.server(), 8080), at(net.remote(), 8080), at(net.client(), 8080)] {
                let mut kernel = kernel();
                let (client, frontend) = (at(net.client(), 40000), at(net.cluster_ip(), 80));
                kernel.service(frontend, UDP, 5, 1, &[backend]);
                let (verdict, seen) = kernel.forwarded(FROM_POD, &packet::udp(client, frontend));
                assert_eq!((verdict, seen.destination, seen.ttl), (Verdict::Pass, backend, 64));
                let (program, to) = if backend.ip() == net.client() { (FROM_POD, seen.source) } else { (TO_POD, client) };
                let (verdict, seen) = kernel.forwarded(program, &packet::udp(backend, to));
                assert_eq!((verdict, seen.ends()), (Verdict::Pass, (frontend, client)));
            }
        }
    }
}

privileged! {
    fn what_the_stack_delivers_to_a_chained_pod_is_judged_also_from_pods_of_the_node() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            let packet = packet::tcp(at(net.server(), 50000), at(net.client(), 80), SYN);
            let (verdict, _) = kernel.run_from(TO_POD, &packet, node::SERVER_IFINDEX);
            assert_eq!(verdict, Verdict::Drop);
            let event = kernel.events()[0];
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, node::SERVER_IDENTITY));
            let server = RulePeer::identity(node::SERVER_IDENTITY);
            kernel.rule(rule(CLIENT_POLICY, server, Direction::INGRESS), normal(Action::ALLOW, 1));
            assert_eq!(kernel.run_from(TO_POD, &packet, node::SERVER_IFINDEX), (Verdict::Pass, packet));
        }
    }
}

privileged! {
    fn nothing_is_redirected_to_a_chained_pod() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.endpoint(node::SERVER_IFINDEX, Endpoint { flags: EndpointFlags::CHAINED, ..node::server() });
            // to_pod judges, so that here it does not matter what the policy says.
            kernel.policy(SERVER_POLICY, isolating(SERVER_POLICY, 9));
            let packet = packet::tcp(at(net.client(), 40000), at(net.server(), 80), SYN);
            assert_eq!(kernel.run(FROM_POD, &packet), (Verdict::Pass, packet));
            let packet = packet::tcp(at(net.world(), 40000), at(net.server(), 80), SYN);
            assert_eq!(kernel.run(FROM_UPLINK, &packet), (Verdict::Pass, packet));
        }
    }
}

privileged! {
    fn an_unlisted_sender_is_who_its_node_says_it_is() {
        for net in Net::BOTH {
            let mut kernel = kernel();
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 9));
            let identity = 0x0012_3456;
            kernel.rule(rule(CLIENT_POLICY, RulePeer::identity(identity), Direction::INGRESS), normal(Action::ALLOW, 1));
            let packet = packet::tcp(at(net.unlisted(), 40000), at(net.client(), 80), SYN);
            assert_eq!(kernel.run(TO_POD, &packet).0, Verdict::Drop);
            assert_eq!(kernel.run_marked(TO_POD, &packet, 0x3456_0f12).0, Verdict::Pass);
            // A row knows better than a mark.
            let listed = packet::tcp(at(net.remote(), 40000), at(net.client(), 80), SYN);
            assert_eq!(kernel.run_marked(TO_POD, &listed, 0x3456_0f12).0, Verdict::Drop);
        }
    }
}
