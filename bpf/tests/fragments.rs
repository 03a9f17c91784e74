//! Datagrams in fragments: only the first one has ports, all of them go the same way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::inet::Direction;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_POD, TO_UPLINK};
use common::kernel::{Kernel, Verdict};
use common::node::{self, Net, SERVER_POLICY, at, isolating, normal, port_rule};
use common::packet::{self, Seen, UDP};

const PAYLOAD: [u8; 64] = [0x5a; 64];

/// Runs both fragments of a packet, and returns what they are together.
fn both(kernel: &mut Kernel, program: &str, whole: &[u8], id: u32) -> (Verdict, Seen) {
    let mut verdicts = Vec::new();
    let out = packet::fragments(whole, id, 24).map(|fragment| {
        let (verdict, out) = kernel.run(program, &fragment);
        verdicts.push(verdict);
        out
    });
    assert_ne!(verdicts[0], Verdict::Drop, "{:?}", kernel.events());
    assert_eq!(verdicts[0], verdicts[1], "{:?}", kernel.events());
    (verdicts[0], Seen::read(&packet::reassembled(&out)))
}

privileged! {
    fn policy_judges_later_fragments_by_the_ports_of_the_first() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(SERVER_POLICY, isolating(SERVER_POLICY, 3));
            let client = RulePeer::identity(node::CLIENT_IDENTITY);
            kernel.rule(port_rule(SERVER_POLICY, client, Direction::INGRESS, UDP, 53), normal(Action::ALLOW, 1));
            let allowed = packet::datagram(at(net.client(), 40000), at(net.server(), 53), &PAYLOAD);
            let (verdict, seen) = both(&mut kernel, FROM_POD, &allowed, 7);
            assert_eq!((verdict, seen.ends()), (Verdict::Redirect, (at(net.client(), 40000), at(net.server(), 53))));

            let denied = packet::datagram(at(net.client(), 40000), at(net.server(), 54), &PAYLOAD);
            for fragment in packet::fragments(&denied, 8, 24) {
                let event = kernel.dropped(FROM_POD, &fragment);
                assert_eq!((event.reason, event.destination_port.get()), (Reason::POLICY_DEFAULT_DENY, 54));
            }
        }
    }
}

privileged! {
    fn a_later_fragment_whose_first_was_not_seen_is_dropped() {
        for net in Net::BOTH {
            let whole = packet::datagram(at(net.client(), 40000), at(net.server(), 53), &PAYLOAD);
            let mut kernel = node::kernel();
            let [first, later] = packet::fragments(&whole, 7, 24);
            for program in [FROM_POD, TO_POD] {
                assert_eq!(kernel.dropped(program, &later).reason, Reason::FRAG_NOT_FOUND);
            }
            kernel.forwarded_fragment(FROM_POD, &first);
            kernel.forwarded_fragment(FROM_POD, &later);
            let [_, of_another] = packet::fragments(&whole, 8, 24);
            assert_eq!(kernel.dropped(FROM_POD, &of_another).reason, Reason::FRAG_NOT_FOUND);
        }
    }
}

privileged! {
    fn nobody_gives_ports_to_the_fragments_of_others() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let whole = packet::datagram(at(net.server(), 40000), at(net.remote(), 53), &PAYLOAD);
            let [first, later] = packet::fragments(&whole, 7, 24);
            assert_eq!(kernel.dropped(FROM_POD, &first).reason, Reason::INVALID_SOURCE_IP);
            assert_eq!(kernel.dropped(FROM_POD, &later).reason, Reason::FRAG_NOT_FOUND);
        }
    }
}

privileged! {
    fn a_service_translates_all_fragments_there_and_back() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let (client, frontend) = (at(net.client(), 40000), at(net.cluster_ip(), 80));
            let backend = at(net.server(), 8080);
            kernel.service(frontend, UDP, 5, 1, &[backend]);
            let (_, seen) = both(&mut kernel, FROM_POD, &packet::datagram(client, frontend, &PAYLOAD), 7);
            assert_eq!(seen.ends(), (client, backend));
            let (_, seen) = both(&mut kernel, TO_POD, &packet::datagram(backend, client, &PAYLOAD), 9);
            assert_eq!(seen.ends(), (frontend, client));
        }
    }
}

privileged! {
    fn all_fragments_are_masqueraded_and_all_of_the_reply_come_back() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            // Outside the range, so that the port changes as well.
            let (client, server) = (at(net.client(), 1024), at(net.world(), 53));
            let (_, seen) = both(&mut kernel, TO_UPLINK, &packet::datagram(client, server, &PAYLOAD), 7);
            assert_eq!((seen.source.ip(), seen.destination), (net.host(), server));
            assert_ne!(seen.source.port(), 1024);
            let (verdict, back) = both(&mut kernel, FROM_UPLINK, &packet::datagram(server, seen.source, &PAYLOAD), 8);
            assert_eq!((verdict, back.ends()), (Verdict::Redirect, (server, client)));
        }
    }
}

privileged! {
    fn large_pings_are_masqueraded() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let ping = |source, destination, id, reply| packet::large_echo(source, destination, id, reply, &PAYLOAD);
            let (_, seen) = both(&mut kernel, TO_UPLINK, &ping(net.client(), net.world(), 7, false), 7);
            assert_eq!(seen.source.ip(), net.host());
            let reply = ping(net.world(), net.host(), seen.source.port(), true);
            let (_, back) = both(&mut kernel, FROM_UPLINK, &reply, 8);
            assert_eq!(back.ends(), (at(net.world(), 7), at(net.client(), 7)));
        }
    }
}

privileged! {
    fn a_pods_later_fragment_does_not_leave_as_it_is_and_the_hosts_does() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let [_, later] = packet::fragments(&packet::datagram(at(net.client(), 1), at(net.world(), 53), &PAYLOAD), 7, 24);
            assert_eq!(kernel.dropped(TO_UPLINK, &later).reason, Reason::FRAG_NOT_FOUND);
            let [_, later] = packet::fragments(&packet::datagram(at(net.host(), 40000), at(net.world(), 53), &PAYLOAD), 7, 24);
            assert_eq!(kernel.run(TO_UPLINK, &later), (Verdict::Pass, later));
        }
    }
}
