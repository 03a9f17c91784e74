//! Flows: what is remembered, for how long, and when it is judged again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::address::Address;
use axoneme_bpf::conntrack::{Ct, CtFlags};
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::{Kernel, Verdict};
use common::node::{
    self, CLIENT_IDENTITY, CLIENT_POLICY, Net, SERVER_POLICY, at, isolating, normal, open, port_rule, rule,
};
use common::packet::{self, ACK, FIN, RST, SYN, TCP, UDP};

const INGRESS: Direction = Direction::INGRESS;
const EGRESS: Direction = Direction::EGRESS;

/// The client's TCP flow to an address of the world, as its egress entry.
fn flow(net: Net) -> Tuple {
    Tuple::new(EGRESS, TCP, (net.client(), 40000), (net.world(), 80))
}

fn sends(kernel: &mut Kernel, net: Net, flags: u8) -> Verdict {
    kernel.run(FROM_POD, &packet::tcp(at(net.client(), 40000), at(net.world(), 80), flags)).0
}

fn gets(kernel: &mut Kernel, net: Net, flags: u8) -> Verdict {
    kernel.run_from(TO_POD, &packet::tcp(at(net.world(), 80), at(net.client(), 40000), flags), 2).0
}

/// Seconds until an entry expires.
fn lifetime(ct: Ct) -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let left = ct.expires - (now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64);
    // The kernel's coarse clock may be some milliseconds behind.
    (left + 500_000_000) / 1_000_000_000
}

privileged! {
    fn an_entry_per_end_holds_initiator_identity_and_generation() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(net.server(), 53)));
            let ends = |direction| Tuple::new(direction, UDP, (net.client(), 40000), (net.server(), 53));
            let source = kernel.ct(ends(EGRESS)).expect("egress entry");
            assert_eq!((source.peer_identity, source.generation), (node::SERVER_IDENTITY, 1));
            let destination = kernel.ct(ends(INGRESS)).expect("ingress entry");
            assert_eq!((destination.peer_identity, destination.generation), (CLIENT_IDENTITY, 2));
        }
    }
}

privileged! {
    fn a_reply_passes_an_isolating_policy_and_another_packet_does_not() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(CLIENT_POLICY, axoneme_bpf::policy::Policy {
                flags: axoneme_bpf::policy::PolicyFlags::ENFORCE_INGRESS,
                ..isolating(CLIENT_POLICY, 1)
            });
            assert_eq!(sends(&mut kernel, net, SYN), Verdict::Pass);
            assert_eq!(gets(&mut kernel, net, SYN | ACK), Verdict::Pass);
            let other = packet::tcp(at(net.world(), 81), at(net.client(), 40000), SYN | ACK);
            assert_eq!(kernel.dropped(TO_POD, &other).reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn tcp_lives_longer_when_established_and_shorter_when_closed() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 60);
            gets(&mut kernel, net, SYN | ACK);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 60, "half open");
            sends(&mut kernel, net, ACK);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 8000);
            sends(&mut kernel, net, FIN | ACK);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 8000, "the other end may still send");
            gets(&mut kernel, net, FIN | ACK);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 10);
        }
    }
}

privileged! {
    fn a_reset_closes_at_once() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            gets(&mut kernel, net, RST | ACK);
            assert_eq!(lifetime(kernel.ct(flow(net)).unwrap()), 10);
        }
    }
}

privileged! {
    fn a_port_that_is_used_again_is_a_new_connection() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            gets(&mut kernel, net, RST | ACK);
            sends(&mut kernel, net, SYN);
            let ct = kernel.ct(flow(net)).unwrap();
            assert_eq!((ct.flags, lifetime(ct)), (CtFlags::default(), 60));
        }
    }
}

privileged! {
    fn what_is_not_tcp_lives_a_minute() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(net.world(), 53)));
            let udp = kernel.ct(Tuple::new(EGRESS, UDP, (net.client(), 40000), (net.world(), 53))).unwrap();
            assert_eq!(lifetime(udp), 60);
            kernel.forwarded(FROM_POD, &packet::echo(net.client(), net.world(), 7, false));
            let protocol = if net == Net::V4 { packet::ICMP } else { packet::ICMPV6 };
            let echo = kernel.ct(Tuple::new(EGRESS, protocol, (net.client(), 7), (net.world(), 7))).unwrap();
            assert_eq!(lifetime(echo), 60);
        }
    }
}

privileged! {
    fn an_echo_reply_belongs_to_its_request() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.forwarded(FROM_POD, &packet::echo(net.client(), net.world(), 7, false));
            kernel.policy(CLIENT_POLICY, axoneme_bpf::policy::Policy {
                flags: axoneme_bpf::policy::PolicyFlags::ENFORCE_INGRESS,
                ..isolating(CLIENT_POLICY, 5)
            });
            assert_eq!(kernel.run_from(TO_POD, &packet::echo(net.world(), net.client(), 7, true), 2).0, Verdict::Pass);
            assert_eq!(kernel.run_from(TO_POD, &packet::echo(net.world(), net.client(), 8, true), 2).0, Verdict::Drop);
        }
    }
}

privileged! {
    fn an_expired_entry_does_not_exist() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            let ct = kernel.ct(flow(net)).unwrap();
            kernel.set_ct(flow(net), Ct { expires: 1, ..ct });
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 1));
            assert_eq!(gets(&mut kernel, net, SYN | ACK), Verdict::Drop, "no reply to a flow that is over");
        }
    }
}

privileged! {
    fn a_cached_verdict_is_not_judged_again() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            // Without a new generation, nobody looks at the rows.
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 1));
            assert_eq!(sends(&mut kernel, net, ACK), Verdict::Pass);
        }
    }
}

privileged! {
    fn established_flow_is_judged_again_after_generation_changes() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            gets(&mut kernel, net, SYN | ACK);
            sends(&mut kernel, net, ACK);

            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 7));
            kernel.rule(port_rule(CLIENT_POLICY, RulePeer::ANY_WORLD, EGRESS, TCP, 80), normal(Action::ALLOW, 1));
            assert_eq!(sends(&mut kernel, net, ACK), Verdict::Pass, "still allowed");
            assert_eq!(kernel.ct(flow(net)).unwrap().generation, 7);

            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY + 50, 8));
            assert_eq!(sends(&mut kernel, net, ACK), Verdict::Drop, "an established flow that is no longer allowed");
            assert_eq!(sends(&mut kernel, net, ACK), Verdict::Drop, "denials are not cached");
            assert_eq!(kernel.count(Reason::POLICY_DEFAULT_DENY, EGRESS), 2);

            kernel.policy(CLIENT_POLICY, open(CLIENT_POLICY, 9));
            assert_eq!(sends(&mut kernel, net, ACK), Verdict::Pass);
        }
    }
}

privileged! {
    fn a_reply_that_finds_a_stale_entry_is_judged_as_the_flow_began() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            sends(&mut kernel, net, SYN);
            // Ingress is closed and egress to the world's port 80 open: what counts is how the flow began.
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 7));
            kernel.rule(port_rule(CLIENT_POLICY, RulePeer::ANY_WORLD, EGRESS, TCP, 80), normal(Action::ALLOW, 1));
            assert_eq!(gets(&mut kernel, net, SYN | ACK), Verdict::Pass);
            assert_eq!(kernel.ct(flow(net)).unwrap().generation, 7);

            // Egress is closed and ingress open.
            kernel.policy(CLIENT_POLICY, isolating(60, 8));
            kernel.rule(rule(60, RulePeer::ANY_WORLD, INGRESS), normal(Action::ALLOW, 1));
            assert_eq!(gets(&mut kernel, net, ACK), Verdict::Drop);
            assert_eq!(kernel.events().last().unwrap().cookie, 200, "the egress policy is to blame");
        }
    }
}

privileged! {
    fn a_peer_with_another_identity_is_judged_again() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(CLIENT_POLICY, isolating(CLIENT_POLICY, 1));
            kernel.rule(rule(CLIENT_POLICY, RulePeer::identity(node::REMOTE_IDENTITY), EGRESS), normal(Action::ALLOW, 1));
            let packet = packet::udp(at(net.client(), 40000), at(net.remote(), 53));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Redirect);
            kernel.address(net.remote(), Address::pod(node::REMOTE_IDENTITY + 1, net.node()));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Drop);
        }
    }
}

privileged! {
    fn a_server_answers_a_pod_of_its_node_under_closed_egress() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(net.server(), 53)));
            kernel.policy(SERVER_POLICY, isolating(SERVER_POLICY, 2));
            // The server's device takes the place of the client's.
            let pod_mac = packet::SOURCE_MAC;
            kernel.endpoint(node::CLIENT_IFINDEX, axoneme_bpf::endpoint::Endpoint { pod_mac, ..node::server() });
            kernel.endpoint(node::SERVER_IFINDEX, node::client());
            kernel.address(net.client(), Address::endpoint(node::SERVER_IFINDEX));
            kernel.address(net.server(), Address::endpoint(node::CLIENT_IFINDEX));
            let reply = packet::udp(at(net.server(), 53), at(net.client(), 40000));
            assert_eq!(kernel.run(FROM_POD, &reply).0, Verdict::Redirect);
        }
    }
}
