//! What is told of flows that pass: the rules that allow them, and the policies that only audit and would have dropped them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::event::{Event, EventFlags, EventKind};
use axoneme_bpf::inet::{Direction, Family};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::Action as A;
use axoneme_bpf::policy::{Policy, PolicyClass, PolicyClassKey, PolicyFlags, RulePeer};
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::{Kernel, Verdict};
use common::node::{
    self, CLIENT_IDENTITY, Net, SERVER_ID, SERVER_IDENTITY, SERVER_POLICY, at, normal, port_rule, rule,
};
use common::packet::{self, ACK, SYN, TCP};

const INGRESS: Direction = Direction::INGRESS;
const SLOT: u32 = 77;

/// A node that tells of what is allowed, too.
fn telling() -> Kernel {
    let mut kernel = node::kernel();
    let config = node::config();
    kernel.config(Config { flags: config.flags | ConfigFlags::VERDICTS, ..config });
    kernel
}

fn to_server(net: Net, port: u16, flags: u8) -> Vec<u8> {
    packet::tcp(at(net.client(), 40_000), at(net.server(), port), flags)
}

fn passes(kernel: &mut Kernel, packet: &[u8]) -> Vec<Event> {
    kernel.events();
    assert_eq!(kernel.run(FROM_POD, packet).0, Verdict::Redirect);
    kernel.events()
}

/// The server is isolated by policy 100, which only audits; with its audited rows in [`SLOT`].
fn auditing() -> Policy {
    Policy {
        slot: SLOT,
        generation: 9,
        flags: PolicyFlags::AUDITS | PolicyFlags::AUDIT_INGRESS,
        audited_ingress_cookie: 100,
        ..Policy::default()
    }
}

privileged! {
    fn the_rule_that_lets_a_flow_begin_is_told_once() {
        for net in Net::BOTH {
            let mut kernel = telling();
            kernel.policy(SERVER_POLICY, node::isolating(SLOT, 9));
            kernel.rule(port_rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS, TCP, 80), normal(A::ALLOW, 7));
            let told = passes(&mut kernel, &to_server(net, 80, SYN));
            let [event] = told[..] else { panic!("{told:?}") };
            assert_eq!((event.kind, event.reason, event.cookie), (EventKind::ALLOW, Reason::FORWARDED, 7));
            assert_eq!((event.direction, event.endpoint, event.flags), (INGRESS, SERVER_ID, EventFlags::default()));
            assert_eq!((event.source_identity, event.destination_identity), (CLIENT_IDENTITY, SERVER_IDENTITY));
            assert_eq!((event.source_port.get(), event.destination_port.get()), (40_000, 80));
            assert_eq!(passes(&mut kernel, &to_server(net, 80, ACK)), [], "it has begun");
            // Judged again, and still the same flow.
            kernel.policy(SERVER_POLICY, node::isolating(SLOT, 10));
            assert_eq!(passes(&mut kernel, &to_server(net, 80, ACK)), []);
            assert_eq!(kernel.drops(), []);
        }
    }
}

privileged! {
    fn nothing_is_told_where_no_rule_decides_or_nobody_wants_to_know() {
        let mut kernel = telling();
        assert_eq!(passes(&mut kernel, &to_server(Net::V4, 80, SYN)), [], "nobody isolates the server");
        let mut kernel = node::kernel();
        kernel.policy(SERVER_POLICY, node::isolating(SLOT, 9));
        kernel.rule(rule(SLOT, RulePeer::ANY_POD, INGRESS), normal(A::ALLOW, 7));
        assert_eq!(passes(&mut kernel, &to_server(Net::V4, 80, SYN)), []);
    }
}

privileged! {
    fn what_a_policy_that_only_audits_would_drop_passes_and_is_told() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(SERVER_POLICY, auditing());
            kernel.rule(
                port_rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), Direction::AUDITED_INGRESS, TCP, 80),
                normal(A::ALLOW, 7),
            );
            assert_eq!(passes(&mut kernel, &to_server(net, 80, SYN)), [], "it would be allowed");
            let told = passes(&mut kernel, &to_server(net, 81, SYN));
            let [event] = told[..] else { panic!("{told:?}") };
            assert_eq!((event.kind, event.reason), (EventKind::AUDIT, Reason::POLICY_DEFAULT_DENY));
            assert_eq!((event.cookie, event.direction, event.endpoint), (100, INGRESS, SERVER_ID));
            assert_eq!((kernel.count(Reason::AUDITED, INGRESS), kernel.drops()), (1, vec![]));
            assert_eq!(passes(&mut kernel, &to_server(net, 81, ACK)), [], "once a flow");
        }
    }
}

privileged! {
    fn a_rule_that_would_deny_is_named_also_by_cidr() {
        let net = Net::V4;
        let mut kernel = telling();
        kernel.policy(SERVER_POLICY, Policy { flags: PolicyFlags::AUDITS, ..auditing() });
        let key = PolicyClassKey::new(SLOT, Direction::AUDITED_INGRESS, net.client(), 24);
        assert_eq!(key.family, Family::IPV4);
        kernel.class(key, PolicyClass { if_pod: 1, ..PolicyClass::default() });
        kernel.rule(rule(SLOT, RulePeer::class(1), Direction::AUDITED_INGRESS), normal(A::DENY, 5));
        // What is enforced allows it, and that is not what people have to hear of.
        kernel.rule(rule(SLOT, RulePeer::ANY_POD, INGRESS), normal(A::ALLOW, 6));
        let told = passes(&mut kernel, &to_server(net, 81, SYN));
        let [event] = told[..] else { panic!("{told:?}") };
        assert_eq!((event.kind, event.reason, event.cookie), (EventKind::AUDIT, Reason::POLICY_DENY, 5));
    }
}

privileged! {
    fn what_is_dropped_is_not_audited() {
        let mut kernel = node::kernel();
        let both = PolicyFlags::AUDITS | PolicyFlags::AUDIT_INGRESS | PolicyFlags::ENFORCE_INGRESS;
        kernel.policy(SERVER_POLICY, Policy { flags: both, ingress_cookie: 99, ..auditing() });
        let event = kernel.dropped(FROM_POD, &to_server(Net::V4, 80, SYN));
        assert_eq!((event.kind, event.reason, event.cookie), (EventKind::DROP, Reason::POLICY_DEFAULT_DENY, 99));
        assert_eq!(kernel.count(Reason::AUDITED, INGRESS), 0);
    }
}

privileged! {
    fn an_answer_is_audited_as_the_flow_that_it_answers() {
        let net = Net::V4;
        let mut kernel = node::kernel();
        let answer = packet::tcp(at(net.world(), 443), at(net.client(), 40_000), SYN | ACK);
        kernel.run(FROM_POD, &packet::tcp(at(net.client(), 40_000), at(net.world(), 443), SYN));
        let auditing = Policy {
            flags: PolicyFlags::AUDITS | PolicyFlags::AUDIT_EGRESS,
            audited_egress_cookie: 200,
            ..auditing()
        };
        kernel.policy(node::CLIENT_POLICY, auditing);
        kernel.events();
        assert_eq!(kernel.run_from(TO_POD, &answer, 2).0, Verdict::Pass);
        let told = kernel.events();
        let [event] = told[..] else { panic!("{told:?}") };
        assert_eq!((event.kind, event.cookie, event.flags), (EventKind::AUDIT, 200, EventFlags::REPLY));
        assert_eq!((event.direction, event.endpoint), (INGRESS, node::CLIENT_ID));
    }
}

privileged! {
    fn what_is_allowed_leaves_half_of_the_ring_to_what_is_not() {
        let net = Net::V4;
        let mut kernel = telling();
        kernel.policy(SERVER_POLICY, node::isolating(SLOT, 9));
        kernel.rule(port_rule(SLOT, RulePeer::ANY_POD, INGRESS, TCP, 80), normal(A::ALLOW, 7));
        kernel.events();
        for port in 1..=3000 {
            kernel.run(FROM_POD, &packet::tcp(at(net.client(), port), at(net.server(), 80), SYN));
        }
        let lost = kernel.count(Reason::EVENT_LOST, INGRESS);
        assert_eq!(kernel.run(FROM_POD, &to_server(net, 81, SYN)).0, Verdict::Drop);
        let told = kernel.events();
        assert_eq!(told.iter().filter(|event| event.kind == EventKind::DROP).count(), 1, "there was room for it");
        assert_eq!(told.len() as u64 - 1 + lost, 3000, "and what was not told was counted");
        assert!(lost > 1000, "{lost}");
    }
}
