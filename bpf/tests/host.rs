//! The node's own policy: what its processes send and get is judged once policies select the node.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use axoneme_bpf::event::{Event, EventKind};
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, Policy, PolicyFlags, PolicyIndex, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK};
use common::cluster::Cluster;
use common::kernel::{Kernel, Verdict};
use common::netns::{self, Netns};
use common::node::{self, CLIENT_IDENTITY, Net, REMOTE_IDENTITY, at, isolating, normal, port_rule, rule};
use common::packet::{self, ACK, RST, SYN, TCP, UDP};
use common::traffic::{tcp, udp};

const SLOT: u32 = 700;
const MEGABYTE: usize = 1 << 20;
const INGRESS: Direction = Direction::INGRESS;
const EGRESS: Direction = Direction::EGRESS;
const HOST: u32 = 1;
const WORLD: u32 = 2;

/// A node whose host is isolated in both directions.
fn isolated() -> Kernel {
    let mut kernel = node::kernel();
    kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 7));
    kernel
}

fn allow(kernel: &mut Kernel, peer: RulePeer, direction: Direction, protocol: u8, port: u16) {
    kernel.rule(port_rule(SLOT, peer, direction, protocol, port), normal(Action::ALLOW, 1));
}

fn in_from(source: IpAddr, net: Net, port: u16, flags: u8) -> Vec<u8> {
    packet::tcp(at(source, 50_000), at(net.host(), port), flags)
}

fn out_to(net: Net, destination: IpAddr, port: u16, flags: u8) -> Vec<u8> {
    packet::tcp(at(net.host(), 20_000), at(destination, port), flags)
}

#[track_caller]
fn passes(kernel: &mut Kernel, program: &str, packet: &[u8]) {
    assert_eq!(kernel.run(program, packet), (Verdict::Pass, packet.to_vec()), "{:?}", kernel.events());
}

fn who(event: &Event) -> (Reason, u32, Direction, (u32, u32)) {
    (event.reason, event.cookie, event.direction, (event.source_identity, event.destination_identity))
}

privileged! {
    fn without_a_policy_nothing_of_the_host_is_judged_or_tracked() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for policy in [None, Some(Policy::default())] {
                policy.into_iter().for_each(|policy| kernel.policy(PolicyIndex::HOST.0, policy));
                passes(&mut kernel, FROM_UPLINK, &in_from(net.world(), net, 22, SYN));
                passes(&mut kernel, TO_UPLINK, &out_to(net, net.world(), 443, SYN));
                let key = Tuple::new(INGRESS, TCP, (net.world(), 50_000), (net.host(), 22));
                assert!(kernel.ct(key).is_none());
            }
        }
    }
}

privileged! {
    fn what_no_rule_allows_is_dropped_both_ways_and_says_who_is_isolated() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            let event = kernel.dropped(FROM_UPLINK, &in_from(net.world(), net, 22, SYN));
            assert_eq!(who(&event), (Reason::POLICY_DEFAULT_DENY, 100, INGRESS, (WORLD, HOST)));
            assert_eq!(event.endpoint, 0);
            let event = kernel.dropped(TO_UPLINK, &out_to(net, net.world(), 443, SYN));
            assert_eq!(who(&event), (Reason::POLICY_DEFAULT_DENY, 200, EGRESS, (HOST, WORLD)));
            let event = kernel.dropped(TO_UPLINK, &out_to(net, net.node(), 10_250, SYN));
            assert_eq!(event.destination_identity, 6);
        }
    }
}

privileged! {
    fn what_a_rule_allows_passes_with_its_answers_and_nothing_else() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            allow(&mut kernel, RulePeer::ANY_WORLD, INGRESS, TCP, 22);
            allow(&mut kernel, RulePeer::ANY_NODE, EGRESS, UDP, 53);
            passes(&mut kernel, FROM_UPLINK, &in_from(net.world(), net, 22, SYN));
            passes(&mut kernel, TO_UPLINK, &packet::tcp(at(net.host(), 22), at(net.world(), 50_000), SYN | ACK));
            passes(&mut kernel, TO_UPLINK, &packet::udp(at(net.host(), 20_000), at(net.node(), 53)));
            passes(&mut kernel, FROM_UPLINK, &packet::udp(at(net.node(), 53), at(net.host(), 20_000)));

            kernel.dropped(TO_UPLINK, &packet::tcp(at(net.host(), 22), at(net.world(), 50_001), SYN | ACK));
            kernel.dropped(FROM_UPLINK, &packet::udp(at(net.node(), 53), at(net.host(), 20_001)));
            kernel.dropped(FROM_UPLINK, &in_from(net.node(), net, 22, SYN));
        }
    }
}

privileged! {
    fn a_rule_that_denies_names_itself_and_no_default_is_needed() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(PolicyIndex::HOST.0, node::open(SLOT, 7));
            kernel.rule(port_rule(SLOT, RulePeer::ANY_WORLD, INGRESS, TCP, 23), normal(Action::DENY, 9));
            let event = kernel.dropped(FROM_UPLINK, &in_from(net.world(), net, 23, SYN));
            assert_eq!(who(&event), (Reason::POLICY_DENY, 9, INGRESS, (WORLD, HOST)));
            passes(&mut kernel, FROM_UPLINK, &in_from(net.world(), net, 22, SYN));
            passes(&mut kernel, TO_UPLINK, &out_to(net, net.world(), 23, SYN));
        }
    }
}

privileged! {
    fn a_policy_that_only_audits_drops_nothing_and_tells() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let flags = PolicyFlags::AUDITS | PolicyFlags::AUDIT_INGRESS;
            kernel.policy(PolicyIndex::HOST.0, Policy { flags, audited_ingress_cookie: 5, ..node::open(SLOT, 7) });
            passes(&mut kernel, FROM_UPLINK, &in_from(net.world(), net, 22, SYN));
            let told = kernel.events();
            let [event] = told[..] else { panic!("{told:?}") };
            assert_eq!(event.kind, EventKind::AUDIT);
            assert_eq!(who(&event), (Reason::POLICY_DEFAULT_DENY, 5, INGRESS, (WORLD, HOST)));
        }
    }
}

privileged! {
    fn pods_go_their_ways_past_an_isolated_host() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            let (pod, world) = (at(net.client(), 40_000), at(net.world(), 443));
            let (verdict, _) = kernel.forwarded(FROM_POD, &packet::tcp(pod, world, SYN));
            assert_eq!(verdict, Verdict::Pass);
            let (verdict, seen) = kernel.forwarded(TO_UPLINK, &packet::tcp(pod, world, SYN));
            assert_eq!((verdict, seen.source), (Verdict::Pass, at(net.host(), 40_000)));
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::tcp(world, seen.source, SYN | ACK));
            assert_eq!((verdict, seen.destination), (Verdict::Redirect, pod));
            // And what the host only forwards.
            passes(&mut kernel, FROM_UPLINK, &packet::udp(world, at(net.unlisted(), 53)));
            passes(&mut kernel, TO_UPLINK, &packet::udp(at(net.unlisted(), 53), world));
            assert_eq!(kernel.drops(), []);
        }
    }
}

privileged! {
    fn own_pods_are_judged_by_their_identity_and_may_always_answer() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            let asks = |port| packet::tcp(at(net.client(), 40_000), at(net.host(), port), SYN);
            allow(&mut kernel, RulePeer::identity(CLIENT_IDENTITY), INGRESS, TCP, 80);
            passes(&mut kernel, FROM_POD, &asks(80));
            let answer = packet::tcp(at(net.host(), 80), at(net.client(), 40_000), SYN | ACK);
            assert_eq!(kernel.run_from(TO_POD, &answer, 0).0, Verdict::Pass);
            let event = kernel.dropped(FROM_POD, &asks(81));
            assert_eq!(who(&event), (Reason::POLICY_DEFAULT_DENY, 100, INGRESS, (CLIENT_IDENTITY, HOST)));

            // The host asks the pod, whatever it may not send elsewhere.
            let probe = packet::tcp(at(net.host(), 20_000), at(net.client(), 8080), SYN);
            assert_eq!(kernel.run_from(TO_POD, &probe, 0).0, Verdict::Pass);
            passes(&mut kernel, FROM_POD, &packet::tcp(at(net.client(), 8080), at(net.host(), 20_000), SYN | ACK));
        }
    }
}

privileged! {
    fn what_holds_links_and_flows_together_always_passes() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            let tunnel = packet::udp(at(net.node(), 50_000), at(net.host(), node::TUNNEL_PORT));
            passes(&mut kernel, FROM_UPLINK, &tunnel);
            passes(&mut kernel, TO_UPLINK, &packet::udp(at(net.host(), 50_000), at(net.node(), node::TUNNEL_PORT)));
            let sent = out_to(net, net.world(), 443, ACK);
            passes(&mut kernel, FROM_UPLINK, &packet::too_big(net.node(), &sent));
            let got = in_from(net.world(), net, 22, ACK);
            passes(&mut kernel, TO_UPLINK, &packet::unreachable(net.host(), &got));
        }
    }
}

privileged! {
    fn pings_are_a_matter_of_policy() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            kernel.dropped(FROM_UPLINK, &packet::echo(net.world(), net.host(), 7, false));
            kernel.rule(rule(SLOT, RulePeer::ANY_NODE, EGRESS), normal(Action::ALLOW, 1));
            passes(&mut kernel, TO_UPLINK, &packet::echo(net.host(), net.node(), 8, false));
            passes(&mut kernel, FROM_UPLINK, &packet::echo(net.node(), net.host(), 8, true));
        }
    }
}

privileged! {
    fn fragments_are_judged_by_the_ports_of_the_first() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            allow(&mut kernel, RulePeer::ANY_WORLD, INGRESS, UDP, 53);
            allow(&mut kernel, RulePeer::ANY_WORLD, EGRESS, UDP, 54);
            let datagram = |port| packet::datagram(at(net.world(), 50_000), at(net.host(), port), &[0x5a; 64]);
            for fragment in packet::fragments(&datagram(53), 7, 24) {
                passes(&mut kernel, FROM_UPLINK, &fragment);
            }
            for fragment in packet::fragments(&datagram(54), 8, 24) {
                assert_eq!(kernel.dropped(FROM_UPLINK, &fragment).destination_port.get(), 54);
            }
            let datagram = |port| packet::datagram(at(net.host(), 20_000), at(net.world(), port), &[0x5a; 64]);
            for fragment in packet::fragments(&datagram(54), 9, 24) {
                passes(&mut kernel, TO_UPLINK, &fragment);
            }
            for fragment in packet::fragments(&datagram(55), 10, 24) {
                kernel.dropped(TO_UPLINK, &fragment);
            }
        }
    }
}

privileged! {
    fn what_cannot_be_parsed_is_no_way_past_the_policy() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            kernel.rule(rule(SLOT, RulePeer::ANY_WORLD, INGRESS), normal(Action::ALLOW, 1));
            // Without its flags; a first fragment may leave them to the second.
            let short = |mut packet: Vec<u8>| {
                packet.truncate(packet.len() - 12);
                packet
            };
            let to = |address| short(packet::tcp(at(net.world(), 50_000), at(address, 22), SYN));
            assert_eq!(kernel.dropped(FROM_UPLINK, &to(net.host())).reason, Reason::CT_INVALID_HEADER);
            passes(&mut kernel, FROM_UPLINK, &to(net.unlisted()));
            let sent = short(out_to(net, net.world(), 443, SYN));
            assert_eq!(kernel.dropped(TO_UPLINK, &sent).reason, Reason::CT_INVALID_HEADER);
        }
    }
}

privileged! {
    fn what_claims_to_answer_a_connection_that_there_is_not_is_dropped() {
        for net in Net::BOTH {
            let mut kernel = isolated();
            netns::open(1500);
            let _listener = TcpListener::bind(at(net.host(), 2222)).unwrap();
            allow(&mut kernel, RulePeer::ANY_WORLD, EGRESS, TCP, 443);
            for port in [2222, 2223] {
                for flags in [ACK, SYN | ACK, RST | ACK] {
                    let event = kernel.dropped(FROM_UPLINK, &packet::tcp(at(net.world(), 443), at(net.host(), port), flags));
                    assert_eq!(who(&event), (Reason::POLICY_DEFAULT_DENY, 100, INGRESS, (WORLD, HOST)));
                }
                let key = Tuple::new(EGRESS, TCP, (net.host(), port), (net.world(), 443));
                assert!(kernel.ct(key).is_none(), "nothing is left that would let a connection in");
            }
        }
    }
}

/// What one end writes, the other one gets.
fn arrives(mut from: &TcpStream, mut to: &TcpStream) -> bool {
    to.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    from.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    to.read_exact(&mut buffer).is_ok()
}

/// A connection from one host to another one's port, where somebody goes on to listen.
fn connected(from: &Netns, to: &Netns, address: SocketAddr) -> (TcpStream, TcpStream, TcpListener) {
    let listener = to.run(|| TcpListener::bind(address).unwrap());
    let client = from.run(|| TcpStream::connect(address).unwrap());
    let server = listener.accept().unwrap().0;
    (client, server, listener)
}

privileged! {
    fn connections_that_are_older_than_the_policy_go_on_if_they_may_have_been_opened() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            cluster.here.kernel.policy(PolicyIndex::HOST.0, Policy::default());
            let (here, there) = (&cluster.here.netns, &cluster.there.netns);
            let opened = connected(here, there, at(net.node(), 80));
            let gotten = connected(there, here, at(net.host(), 22));
            let others = [connected(here, there, at(net.node(), 81)), connected(there, here, at(net.host(), 23))];

            let kernel = &mut cluster.here.kernel;
            // First a policy that drops nothing: what it sees of a connection says who opened it.
            kernel.policy(PolicyIndex::HOST.0, node::open(SLOT, 6));
            for (client, server, _) in [&opened, &gotten, &others[0], &others[1]] {
                assert!(arrives(server, client) && arrives(client, server));
            }
            kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 7));
            allow(kernel, RulePeer::ANY_NODE, EGRESS, TCP, 80);
            allow(kernel, RulePeer::ANY_NODE, INGRESS, TCP, 22);
            // Who did not open it speaks first.
            assert!(arrives(&opened.1, &opened.0) && arrives(&opened.0, &opened.1), "{:?}", kernel.events());
            assert!(arrives(&gotten.1, &gotten.0) && arrives(&gotten.0, &gotten.1), "{:?}", kernel.events());
            for (client, server, _) in &others {
                assert!(!arrives(server, client) && !arrives(client, server), "nothing allows it");
            }
        }
    }
}

privileged! {
    fn two_hosts_talk_as_far_as_the_policies_of_both_let_them() {
        let mut cluster = Cluster::new();
        cluster.there.kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 7));
        cluster.here.kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 7));
        for net in Net::BOTH {
            assert!(udp(&cluster.here.netns, &cluster.there.netns, 53, at(net.node(), 53)).is_none());
        }
        allow(&mut cluster.here.kernel, RulePeer::ANY_NODE, EGRESS, UDP, 53);
        allow(&mut cluster.here.kernel, RulePeer::ANY_NODE, EGRESS, TCP, 80);
        for net in Net::BOTH {
            assert!(udp(&cluster.here.netns, &cluster.there.netns, 53, at(net.node(), 53)).is_none());
        }
        allow(&mut cluster.there.kernel, RulePeer::ANY_NODE, INGRESS, UDP, 53);
        allow(&mut cluster.there.kernel, RulePeer::ANY_NODE, INGRESS, TCP, 80);
        for net in Net::BOTH {
            udp(&cluster.here.netns, &cluster.there.netns, 53, at(net.node(), 53)).expect("UDP");
            tcp(&cluster.here.netns, &cluster.there.netns, 80, at(net.node(), 80), MEGABYTE).expect("TCP");
        }
    }
}

privileged! {
    fn what_comes_and_goes_by_the_tunnel_is_judged_by_identity() {
        let mut cluster = Cluster::new();
        cluster.there.kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 7));
        cluster.here.kernel.policy(PolicyIndex::HOST.0, isolating(SLOT, 8));
        for net in Net::BOTH {
            let (pod, host) = (&cluster.client.netns, &cluster.there.netns);
            assert!(tcp(pod, host, 80, at(net.node_overlay(), 80), MEGABYTE).is_none(), "a pod to the other host");
            assert!(udp(&cluster.here.netns, &cluster.remote.netns, 53, at(net.remote(), 53)).is_none(), "the host to a pod");
        }
        allow(&mut cluster.there.kernel, RulePeer::identity(CLIENT_IDENTITY), INGRESS, TCP, 80);
        allow(&mut cluster.here.kernel, RulePeer::identity(REMOTE_IDENTITY), EGRESS, UDP, 53);
        for net in Net::BOTH {
            tcp(&cluster.client.netns, &cluster.there.netns, 80, at(net.node_overlay(), 80), MEGABYTE).expect("TCP");
            udp(&cluster.here.netns, &cluster.remote.netns, 53, at(net.remote(), 53)).expect("UDP");
        }
    }
}
