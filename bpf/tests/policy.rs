//! Verdicts: rows in, verdict out. The client sends, the server's ingress and the client's egress are asked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::address::Address;
use axoneme_bpf::inet::Direction;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::Action::{self as A};
use axoneme_bpf::policy::{
    PolicyClass, PolicyClassKey, PolicyRuleKey, RulePeer, RulePorts, TIER_ADMIN, TIER_BASELINE, TIER_NORMAL,
};
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::{Kernel, Verdict};
use common::node::{
    self, CLIENT_IDENTITY, CLIENT_POLICY, Net, REMOTE_IDENTITY, SERVER_POLICY, at, isolating, normal, port_rule, rule,
    tiers,
};
use common::packet::{self, SYN, TCP, UDP};

const INGRESS: Direction = Direction::INGRESS;
const EGRESS: Direction = Direction::EGRESS;
/// Slots differ from indexes, so that mixing them up shows.
const SLOT: u32 = 77;

/// The server is isolated, with its rows in [`SLOT`].
fn isolated_server() -> Kernel {
    let mut kernel = node::kernel();
    kernel.policy(SERVER_POLICY, isolating(SLOT, 9));
    kernel
}

/// The client is isolated, with its rows in [`SLOT`].
fn isolated_client() -> Kernel {
    let mut kernel = node::kernel();
    kernel.policy(CLIENT_POLICY, isolating(SLOT, 9));
    kernel
}

fn to_server(net: Net, port: u16) -> Vec<u8> {
    packet::tcp(at(net.client(), 40000), at(net.server(), port), SYN)
}

/// Whether the client gets through to a port of the server.
fn reaches(kernel: &mut Kernel, net: Net, port: u16) -> bool {
    kernel.run(FROM_POD, &to_server(net, port)).0 == Verdict::Redirect
}

privileged! {
    fn denied_by_default_deny_counts_reason_and_policy() {
        for net in Net::BOTH {
            let mut kernel = isolated_server();
            let event = kernel.dropped(FROM_POD, &to_server(net, 80));
            assert_eq!((event.reason, event.direction, event.cookie), (Reason::POLICY_DEFAULT_DENY, INGRESS, 100));
            assert_eq!(event.endpoint, node::SERVER_ID);
            assert_eq!(kernel.drops(), [(Reason::POLICY_DEFAULT_DENY, INGRESS, 1)]);

            let mut kernel = isolated_client();
            let event = kernel.dropped(FROM_POD, &to_server(net, 80));
            assert_eq!((event.reason, event.direction, event.cookie), (Reason::POLICY_DEFAULT_DENY, EGRESS, 200));
            assert_eq!(event.endpoint, node::CLIENT_ID);
            assert_eq!(kernel.drops(), [(Reason::POLICY_DEFAULT_DENY, EGRESS, 1)]);
        }
    }
}

privileged! {
    fn a_listed_identity_is_allowed_on_its_port_only() {
        for net in Net::BOTH {
            let mut kernel = isolated_server();
            kernel.rule(port_rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS, TCP, 80), normal(A::ALLOW, 1));
            assert!(reaches(&mut kernel, net, 80));
            assert!(!reaches(&mut kernel, net, 81));
            let udp = packet::udp(at(net.client(), 40000), at(net.server(), 80));
            assert_eq!(kernel.dropped(FROM_POD, &udp).reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn a_port_range_is_a_prefix() {
        let mut kernel = isolated_server();
        let ports = RulePorts::Prefix { protocol: TCP, port: 8080, bits: 12 };
        kernel.rule(PolicyRuleKey::new(SLOT, RulePeer::ANY_POD, INGRESS, ports), normal(A::ALLOW, 1));
        assert!(reaches(&mut kernel, Net::V4, 8080));
        assert!(reaches(&mut kernel, Net::V4, 8095));
        assert!(!reaches(&mut kernel, Net::V4, 8096));
    }
}

privileged! {
    fn the_longest_port_prefix_counts() {
        let mut kernel = isolated_server();
        kernel.rule(rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS), normal(A::ALLOW, 1));
        kernel.rule(port_rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS, TCP, 22), normal(A::DENY, 5));
        assert!(reaches(&mut kernel, Net::V4, 80));
        let event = kernel.dropped(FROM_POD, &to_server(Net::V4, 22));
        assert_eq!((event.reason, event.cookie), (Reason::POLICY_DENY, 5));
    }
}

privileged! {
    fn a_rule_for_any_protocol_holds_for_icmp() {
        for net in Net::BOTH {
            let mut kernel = isolated_server();
            kernel.rule(rule(SLOT, RulePeer::ANY_POD, INGRESS), normal(A::ALLOW, 1));
            assert_eq!(kernel.run(FROM_POD, &packet::echo(net.client(), net.server(), 7, false)).0, Verdict::Redirect);
        }
    }
}

privileged! {
    fn the_type_of_an_icmp_message_stands_where_others_have_a_port() {
        for (net, protocol, request, answer) in [(Net::V4, packet::ICMP, 8, 0), (Net::V6, packet::ICMPV6, 128, 129)] {
            // Whatever the echo's id is.
            let echo = |reply| packet::echo(net.client(), net.server(), answer, reply);
            let of_type = |number| port_rule(SLOT, RulePeer::ANY_POD, INGRESS, protocol, number);
            let mut kernel = isolated_server();
            kernel.rule(of_type(answer), normal(A::ALLOW, 1));
            assert_eq!(kernel.dropped(FROM_POD, &echo(false)).reason, Reason::POLICY_DEFAULT_DENY);
            assert_eq!(kernel.run(FROM_POD, &echo(true)).0, Verdict::Redirect);
            let mut kernel = isolated_server();
            kernel.rule(of_type(request), normal(A::ALLOW, 1));
            assert_eq!(kernel.dropped(FROM_POD, &echo(true)).reason, Reason::POLICY_DEFAULT_DENY);
            assert_eq!(kernel.run(FROM_POD, &echo(false)).0, Verdict::Redirect);
        }
    }
}

privileged! {
    fn an_answer_is_judged_by_the_type_of_what_it_answers() {
        for (net, protocol, request) in [(Net::V4, packet::ICMP, 8), (Net::V6, packet::ICMPV6, 128)] {
            let mut kernel = isolated_client();
            kernel.rule(port_rule(SLOT, RulePeer::ANY_WORLD, EGRESS, protocol, request), normal(A::ALLOW, 1));
            kernel.forwarded(FROM_POD, &packet::echo(net.client(), net.world(), 7, false));
            let answer = packet::echo(net.world(), net.client(), 7, true);
            assert_eq!(kernel.run_from(TO_POD, &answer, 2).0, Verdict::Pass);
            // Judged anew, because its policy is another one: with the same rule, and with none.
            kernel.policy(CLIENT_POLICY, isolating(SLOT, 10));
            assert_eq!(kernel.run_from(TO_POD, &answer, 2).0, Verdict::Pass);
            kernel.policy(CLIENT_POLICY, isolating(SLOT + 1, 11));
            assert_eq!(kernel.run_from(TO_POD, &answer, 2).0, Verdict::Drop);
        }
    }
}

privileged! {
    fn an_unlisted_pod_is_any_pod() {
        for net in Net::BOTH {
            let mut kernel = isolated_client();
            let packet = packet::udp(at(net.client(), 40000), at(net.unlisted(), 53));
            assert_eq!(kernel.dropped(FROM_POD, &packet).reason, Reason::POLICY_DEFAULT_DENY);
            kernel.rule(rule(SLOT, RulePeer::ANY_WORLD, EGRESS), normal(A::ALLOW, 1));
            assert_eq!(kernel.dropped(FROM_POD, &packet).reason, Reason::POLICY_DEFAULT_DENY);
            kernel.rule(rule(SLOT, RulePeer::ANY_POD, EGRESS), normal(A::ALLOW, 1));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Redirect);
        }
    }
}

privileged! {
    fn each_scope_has_its_any_row() {
        for net in Net::BOTH {
            for (destination, any) in [
                (net.remote(), RulePeer::ANY_POD),
                (net.node(), RulePeer::ANY_NODE),
                (net.host(), RulePeer::ANY_NODE),
                (net.world(), RulePeer::ANY_WORLD),
            ] {
                let mut kernel = isolated_client();
                let packet = packet::udp(at(net.client(), 40000), at(destination, 53));
                for row in [RulePeer::ANY_POD, RulePeer::ANY_NODE, RulePeer::ANY_WORLD] {
                    let verdict = normal(if row == any { A::ALLOW } else { A::DENY }, 1);
                    kernel.rule(rule(SLOT, row, EGRESS), verdict);
                }
                assert_ne!(kernel.run(FROM_POD, &packet).0, Verdict::Drop, "{destination} is {any:?}");
            }
        }
    }
}

privileged! {
    fn a_listed_identity_does_not_ask_the_any_row() {
        let mut kernel = isolated_server();
        kernel.rule(rule(SLOT, RulePeer::ANY_POD, INGRESS), normal(A::ALLOW, 1));
        assert!(reaches(&mut kernel, Net::V4, 80));
        // A row without an action excepts an identity from the any-row.
        kernel.rule(rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS), normal(A::NONE, 0));
        assert!(!reaches(&mut kernel, Net::V6, 80));
    }
}

privileged! {
    fn a_class_holds_for_pods_nodes_or_the_world_as_its_row_says() {
        for net in Net::BOTH {
            for (destination, class) in [
                (net.remote(), PolicyClass { if_pod: 1, ..PolicyClass::default() }),
                (net.node(), PolicyClass { if_node: 1, ..PolicyClass::default() }),
                (net.world(), PolicyClass { if_world: 1, ..PolicyClass::default() }),
            ] {
                let mut kernel = isolated_client();
                let packet = packet::udp(at(net.client(), 40000), at(destination, 53));
                kernel.rule(rule(SLOT, RulePeer::class(1), EGRESS), normal(A::ALLOW, 1));
                let key = PolicyClassKey::new(SLOT, EGRESS, destination, net.bits() - 8);
                let reversed = PolicyClass { if_pod: class.if_node, if_node: class.if_world, if_world: class.if_pod, reserved: 0 };
                kernel.class(key, reversed);
                assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Drop, "another scope's class");
                kernel.class(key, class);
                assert_ne!(kernel.run(FROM_POD, &packet).0, Verdict::Drop, "{destination}");
            }
        }
    }
}

privileged! {
    fn the_longest_class_prefix_counts() {
        for net in Net::BOTH {
            let mut kernel = isolated_client();
            let packet = packet::udp(at(net.client(), 40000), at(net.world(), 53));
            let class = |number| PolicyClass { if_world: number, ..PolicyClass::default() };
            kernel.class(PolicyClassKey::new(SLOT, EGRESS, net.world(), 0), class(1));
            kernel.rule(rule(SLOT, RulePeer::class(1), EGRESS), normal(A::ALLOW, 1));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Pass);
            // "except": a class of its own, that no rule names.
            kernel.class(PolicyClassKey::new(SLOT, EGRESS, net.world(), net.bits()), class(2));
            let packet = packet::udp(at(net.client(), 40001), at(net.world(), 53));
            assert_eq!(kernel.dropped(FROM_POD, &packet).reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn an_earlier_tier_decides() {
        let cases = [
            // (says the identity's row, passes)
            (vec![(TIER_ADMIN, A::ALLOW, 9, 1), (TIER_NORMAL, A::DENY, 0, 2)], true),
            (vec![(TIER_ADMIN, A::DENY, 9, 1), (TIER_NORMAL, A::ALLOW, 0, 2)], false),
            (vec![(TIER_ADMIN, A::PASS, 0, 1), (TIER_NORMAL, A::ALLOW, 0, 2)], true),
            (vec![(TIER_ADMIN, A::PASS, 0, 1), (TIER_NORMAL, A::DENY, 0, 2)], false),
            (vec![(TIER_NORMAL, A::ALLOW, 0, 1), (TIER_BASELINE, A::DENY, 0, 2)], true),
            (vec![(TIER_BASELINE, A::ALLOW, 0, 2)], true),
            (vec![(TIER_ADMIN, A::PASS, 0, 1)], false),
        ];
        for (says, passes) in cases {
            let mut kernel = isolated_server();
            kernel.rule(rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS), tiers(&says));
            assert_eq!(reaches(&mut kernel, Net::V4, 80), passes, "{says:?}");
        }
    }
}

privileged! {
    fn identity_and_class_are_merged_tier_by_tier() {
        let cases = [
            // (identity's row, class's row, the policy that denies)
            (vec![(TIER_ADMIN, A::DENY, 1, 1)], vec![(TIER_ADMIN, A::ALLOW, 2, 2)], Some(1)),
            (vec![(TIER_ADMIN, A::DENY, 2, 1)], vec![(TIER_ADMIN, A::ALLOW, 1, 2)], None),
            (vec![(TIER_ADMIN, A::ALLOW, 1, 1)], vec![(TIER_ADMIN, A::DENY, 1, 2)], Some(2)),
            (vec![(TIER_ADMIN, A::DENY, 1, 1)], vec![(TIER_ADMIN, A::ALLOW, 1, 2)], Some(1)),
            // Pass all pods, then deny everywhere, then a lower tier's allow.
            (vec![(TIER_ADMIN, A::PASS, 1, 1)], vec![(TIER_ADMIN, A::DENY, 2, 2), (TIER_NORMAL, A::ALLOW, 0, 3)], None),
            (vec![(TIER_ADMIN, A::PASS, 3, 1)], vec![(TIER_ADMIN, A::DENY, 2, 2), (TIER_NORMAL, A::ALLOW, 0, 3)], Some(2)),
            (vec![(TIER_ADMIN, A::PASS, 2, 1)], vec![(TIER_ADMIN, A::DENY, 2, 2), (TIER_NORMAL, A::ALLOW, 0, 3)], Some(2)),
            (vec![(TIER_ADMIN, A::NONE, 0, 0)], vec![(TIER_ADMIN, A::DENY, 9, 2)], Some(2)),
            (vec![(TIER_NORMAL, A::ALLOW, 0, 1)], vec![(TIER_BASELINE, A::DENY, 0, 2)], None),
        ];
        for (identity, class, denied_by) in cases {
            for net in Net::BOTH {
                let mut kernel = isolated_server();
                kernel.rule(rule(SLOT, RulePeer::identity(CLIENT_IDENTITY), INGRESS), tiers(&identity));
                kernel.rule(rule(SLOT, RulePeer::class(4), INGRESS), tiers(&class));
                kernel.class(
                    PolicyClassKey::new(SLOT, INGRESS, net.client(), 8),
                    PolicyClass { if_pod: 4, ..PolicyClass::default() },
                );
                match denied_by {
                    None => assert!(reaches(&mut kernel, net, 80), "{identity:?} and {class:?}"),
                    Some(cookie) => {
                        let event = kernel.dropped(FROM_POD, &to_server(net, 80));
                        assert_eq!((event.reason, event.cookie), (Reason::POLICY_DENY, cookie), "{identity:?} and {class:?}");
                    }
                }
            }
        }
    }
}

privileged! {
    fn a_deny_holds_where_nothing_is_enforced() {
        let mut kernel = node::kernel();
        kernel.rule(rule(SERVER_POLICY, RulePeer::ANY_POD, INGRESS), tiers(&[(TIER_ADMIN, A::DENY, 0, 3)]));
        let event = kernel.dropped(FROM_POD, &to_server(Net::V4, 80));
        assert_eq!((event.reason, event.cookie), (Reason::POLICY_DENY, 3));
    }
}

privileged! {
    fn rows_of_another_slot_or_direction_are_not_asked() {
        let mut kernel = isolated_server();
        kernel.rule(rule(SLOT, RulePeer::ANY_POD, EGRESS), normal(A::ALLOW, 1));
        kernel.rule(rule(SLOT + 1, RulePeer::ANY_POD, INGRESS), normal(A::ALLOW, 1));
        assert!(!reaches(&mut kernel, Net::V4, 80));
    }
}

privileged! {
    fn a_policy_that_was_never_written_is_closed() {
        let mut kernel = node::kernel();
        kernel.endpoint(node::SERVER_IFINDEX, axoneme_bpf::endpoint::Endpoint { policy: 999, ..node::server() });
        assert_eq!(kernel.dropped(FROM_POD, &to_server(Net::V4, 80)).reason, Reason::POLICY_DEFAULT_DENY);
        kernel.endpoint(node::SERVER_IFINDEX, axoneme_bpf::endpoint::Endpoint { policy: u32::MAX, ..node::server() });
        assert_eq!(kernel.dropped(FROM_POD, &to_server(Net::V4, 80)).reason, Reason::POLICY_DEFAULT_DENY);
    }
}

privileged! {
    fn the_world_is_judged_where_the_stack_delivers() {
        for net in Net::BOTH {
            let mut kernel = isolated_client();
            let packet = packet::tcp(at(net.world(), 50000), at(net.client(), 80), SYN);
            let event = kernel.dropped(TO_POD, &packet);
            assert_eq!((event.reason, event.direction, event.source_identity), (Reason::POLICY_DEFAULT_DENY, INGRESS, 2));
            kernel.rule(port_rule(SLOT, RulePeer::ANY_WORLD, INGRESS, TCP, 80), normal(A::ALLOW, 1));
            assert_eq!(kernel.run(TO_POD, &packet).0, Verdict::Pass);
        }
    }
}

privileged! {
    fn a_pod_that_was_unlisted_is_judged_by_its_identity_when_it_becomes_listed() {
        for net in Net::BOTH {
            let mut kernel = isolated_client();
            kernel.rule(rule(SLOT, RulePeer::ANY_POD, EGRESS), normal(A::ALLOW, 1));
            kernel.rule(rule(SLOT, RulePeer::identity(REMOTE_IDENTITY), EGRESS), normal(A::DENY, 8));
            let packet = packet::udp(at(net.client(), 40000), at(net.unlisted(), 53));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Redirect);
            kernel.address(net.unlisted(), Address::pod(REMOTE_IDENTITY, net.node()));
            assert_eq!(kernel.dropped(FROM_POD, &packet).cookie, 8, "the same flow, another identity");
        }
    }
}

privileged! {
    fn both_ends_of_a_local_flow_are_asked() {
        for net in Net::BOTH {
            let mut kernel = isolated_client();
            kernel.policy(SERVER_POLICY, isolating(SERVER_POLICY, 10));
            kernel.rule(port_rule(SLOT, RulePeer::ANY_POD, EGRESS, UDP, 53), normal(A::ALLOW, 1));
            let packet = packet::udp(at(net.client(), 40000), at(net.server(), 53));
            assert_eq!(kernel.dropped(FROM_POD, &packet).direction, INGRESS);
            kernel.rule(port_rule(SERVER_POLICY, RulePeer::ANY_POD, INGRESS, UDP, 53), normal(A::ALLOW, 1));
            assert_eq!(kernel.run(FROM_POD, &packet).0, Verdict::Redirect);
        }
    }
}
