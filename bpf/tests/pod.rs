//! What a pod sends and gets, as `from_pod` and `to_pod` see it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::conntrack::Ct;
use axoneme_bpf::inet::{Direction, Family, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::Verdict;
use common::node::{self, Net, at};
use common::packet::{self, ACK, SYN, Seen};

privileged! {
    fn a_packet_to_a_pod_of_the_node_goes_into_the_pod_past_the_stack() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let packet = packet::tcp(at(net.client(), 40000), at(net.server(), 80), SYN);
            let (verdict, seen) = kernel.forwarded(FROM_POD, &packet);
            assert_eq!(verdict, Verdict::Redirect);
            assert_eq!(seen.ends(), (at(net.client(), 40000), at(net.server(), 80)));
            assert_eq!((seen.source_mac, seen.destination_mac), (node::server().host_mac, node::server().pod_mac));
            assert_eq!(seen.ttl, 63, "one hop");
            assert_eq!(kernel.count(Reason::FORWARDED, Direction::INGRESS), 1);
        }
    }
}

privileged! {
    fn a_packet_to_a_pod_of_another_node_goes_to_the_tunnel() {
        for net in Net::BOTH {
            for destination in [net.remote(), net.unlisted(), net.node_overlay()] {
                let mut kernel = node::kernel();
                let (verdict, seen) = kernel.forwarded(FROM_POD, &packet::udp(at(net.client(), 40000), at(destination, 53)));
                assert_eq!(verdict, Verdict::Redirect);
                assert_eq!(seen.ttl, 63);
                assert_eq!(kernel.count(Reason::FORWARDED, Direction::EGRESS), 1);
            }
        }
    }
}

privileged! {
    fn a_packet_to_the_host_or_to_where_no_route_leads_goes_to_the_stack() {
        for net in Net::BOTH {
            for destination in [net.host(), net.host_overlay(), net.node(), net.world()] {
                let packet = packet::echo(net.client(), destination, 7, false);
                let (verdict, out) = node::kernel().run(FROM_POD, &packet);
                assert_eq!((verdict, out), (Verdict::Pass, packet), "unchanged to {destination}");
            }
        }
    }
}

privileged! {
    fn spoofed_source_is_dropped() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for source in [net.server(), net.remote(), net.host(), net.world()] {
                let event = kernel.dropped(FROM_POD, &packet::udp(at(source, 40000), at(net.remote(), 53)));
                assert_eq!((event.reason, event.direction), (Reason::INVALID_SOURCE_IP, Direction::EGRESS));
                assert_eq!((event.source_identity, event.endpoint), (node::CLIENT_IDENTITY, node::CLIENT_ID));
                assert_eq!(event.source.to_ip(event.family), Some(source));
            }
            assert_eq!(kernel.count(Reason::INVALID_SOURCE_IP, Direction::EGRESS), 4);
        }
    }
}

privileged! {
    fn ipv4_mapped_addresses_are_dropped() {
        let mut kernel = node::kernel();
        let mapped = "::ffff:10.0.1.11".parse().unwrap();
        let event = kernel.dropped(FROM_POD, &packet::udp(at(Net::V6.client(), 1), at(mapped, 53)));
        assert_eq!(event.reason, Reason::V4_MAPPED_IPV6);
        let event = kernel.dropped(FROM_POD, &packet::udp(at(mapped, 1), at(Net::V6.server(), 53)));
        assert_eq!(event.reason, Reason::V4_MAPPED_IPV6);
    }
}

privileged! {
    fn a_pod_may_not_speak_vxlan() {
        for net in Net::BOTH {
            let packet = packet::udp(at(net.client(), 40000), at(net.node(), node::TUNNEL_PORT));
            assert_eq!(node::kernel().dropped(FROM_POD, &packet).reason, Reason::TUNNEL_FROM_POD);
        }
    }
}

privileged! {
    fn a_frame_with_the_source_mac_of_another_pod_is_dropped() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let mut frame = packet::udp(at(net.client(), 40000), at(net.remote(), 53));
            frame[6..12].copy_from_slice(&node::server().pod_mac);
            let event = kernel.dropped(FROM_POD, &frame);
            assert_eq!((event.reason, event.direction), (Reason::INVALID_SOURCE_MAC, Direction::EGRESS));
            assert_eq!(event.source.to_ip(event.family), Some(net.client()));
        }
    }
}

privileged! {
    fn what_is_not_ip_is_dropped_with_a_reason() {
        let mut frame = packet::udp(at(Net::V4.client(), 1), at(Net::V4.server(), 2));
        frame[12..14].copy_from_slice(&[0x88, 0x47]);
        let event = node::kernel().dropped(FROM_POD, &frame);
        assert_eq!((event.reason, event.family), (Reason::UNSUPPORTED_L3, Family::NONE));
    }
}

privileged! {
    fn the_last_hop_ends_here() {
        let mut frame = packet::udp(at(Net::V4.client(), 1), at(Net::V4.server(), 2));
        frame[22] = 1;
        assert_eq!(node::kernel().dropped(FROM_POD, &frame).reason, Reason::TTL_EXCEEDED);
    }
}

privileged! {
    fn truncated_headers_are_dropped() {
        for net in Net::BOTH {
            let whole = packet::tcp(at(net.client(), 1), at(net.server(), 2), SYN);
            for length in if net == Net::V4 { [36, 46] } else { [56, 66] } {
                let (verdict, _) = node::kernel().run(FROM_POD, &whole[..length]);
                assert_eq!(verdict, Verdict::Drop, "{length} bytes");
            }
        }
    }
}

privileged! {
    fn a_device_without_endpoint_drops() {
        let mut kernel = common::kernel::Kernel::with(&[FROM_POD, TO_POD]);
        kernel.config(node::config());
        let packet = packet::udp(at(Net::V4.client(), 1), at(Net::V4.server(), 2));
        assert_eq!(kernel.dropped(FROM_POD, &packet).reason, Reason::NO_ENDPOINT);
        assert_eq!(kernel.dropped(TO_POD, &packet).reason, Reason::NO_ENDPOINT);
    }
}

privileged! {
    fn the_local_host_always_reaches_its_pods() {
        for net in Net::BOTH {
            for host in [net.host(), net.host_overlay()] {
                let mut kernel = node::kernel();
                kernel.policy(node::CLIENT_POLICY, node::isolating(node::CLIENT_POLICY, 1));
                let probe = packet::tcp(at(host, 50000), at(net.client(), 8080), SYN);
                assert_eq!(kernel.run(TO_POD, &probe).0, Verdict::Pass);
                let answer = packet::tcp(at(net.client(), 8080), at(host, 50000), SYN | ACK);
                assert_eq!(kernel.run(FROM_POD, &answer).0, Verdict::Pass, "its answer is a reply");
            }
        }
    }
}

privileged! {
    fn the_local_host_reaches_pods_that_have_no_policy_row_and_nobody_else_does() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.endpoint(node::CLIENT_IFINDEX, axoneme_bpf::endpoint::Endpoint { policy: 0, ..node::client() });
            let probe = packet::tcp(at(net.host(), 50000), at(net.client(), 8080), SYN);
            assert_eq!(kernel.run(TO_POD, &probe).0, Verdict::Pass);
            let other = packet::tcp(at(net.node(), 50000), at(net.client(), 8080), SYN);
            assert_eq!(kernel.dropped(TO_POD, &other).reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn a_forwarded_packet_with_the_hosts_address_is_not_the_host() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(node::CLIENT_POLICY, node::isolating(node::CLIENT_POLICY, 1));
            let probe = packet::tcp(at(net.host(), 50000), at(net.client(), 8080), SYN);
            assert_eq!(kernel.run_from(TO_POD, &probe, 2).0, Verdict::Drop);
            assert_eq!(kernel.events()[0].source_identity, 2, "world");
        }
    }
}

privileged! {
    fn an_icmp_error_about_a_known_flow_passes_an_isolating_policy() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let sent = packet::udp(at(net.client(), 40000), at(net.world(), 53));
            kernel.forwarded(FROM_POD, &sent);
            kernel.policy(node::CLIENT_POLICY, node::isolating(node::CLIENT_POLICY, 1));
            let router = net.node();
            assert_eq!(kernel.run(TO_POD, &packet::unreachable(router, &sent)).0, Verdict::Pass);

            let never_sent = packet::udp(at(net.client(), 40001), at(net.world(), 53));
            let event = kernel.dropped(TO_POD, &packet::unreachable(router, &never_sent));
            assert_eq!(event.reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn a_pod_may_complain_about_what_it_got() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(node::CLIENT_POLICY, node::isolating(node::CLIENT_POLICY, 1));
            let got = packet::udp(at(net.host(), 40000), at(net.client(), 53));
            assert_eq!(kernel.run(TO_POD, &got).0, Verdict::Pass);
            let error = packet::unreachable(net.client(), &got);
            assert_eq!(kernel.run(FROM_POD, &error), (Verdict::Pass, error));
        }
    }
}

privileged! {
    fn a_dropped_packet_is_told_with_ports_identities_and_device() {
        let mut kernel = node::kernel();
        kernel.policy(node::SERVER_POLICY, node::isolating(node::SERVER_POLICY, 2));
        let net = Net::V6;
        let packet = packet::tcp(at(net.client(), 40000), at(net.server(), 80), SYN);
        let event = kernel.dropped(FROM_POD, &packet);
        assert_eq!(event.ifindex, node::CLIENT_IFINDEX);
        assert_eq!(event.source_identity, node::CLIENT_IDENTITY);
        assert_eq!(event.destination_identity, node::SERVER_IDENTITY);
        assert_eq!(event.endpoint, node::SERVER_ID);
        assert_eq!((event.source_port.get(), event.destination_port.get()), (40000, 80));
        assert_eq!((event.protocol, event.tcp_flags, event.family), (packet::TCP, SYN, Family::IPV6));
        assert_eq!(event.length as usize, packet.len());
        let seen = Seen::read(&packet);
        assert_eq!(event.source.to_ip(event.family), Some(seen.source.ip()));
        assert_eq!(event.destination.to_ip(event.family), Some(seen.destination.ip()));
    }
}

privileged! {
    fn a_pod_may_not_complain_about_the_flows_of_others() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.policy(node::CLIENT_POLICY, node::isolating(node::CLIENT_POLICY, 1));
            let flow = Tuple::new(Direction::EGRESS, packet::UDP, (net.server(), 40000), (net.remote(), 53));
            kernel.set_ct(flow, Ct { expires: u64::MAX, ..Ct::default() });
            // As if the client had been on the way.
            let sent = packet::udp(at(net.remote(), 53), at(net.server(), 40000));
            let event = kernel.dropped(FROM_POD, &packet::unreachable(net.client(), &sent));
            assert_eq!(event.reason, Reason::POLICY_DEFAULT_DENY);
        }
    }
}

privileged! {
    fn an_event_that_finds_no_room_is_counted() {
        let mut kernel = node::kernel();
        let spoofed = packet::udp(at(Net::V4.world(), 1), at(Net::V4.server(), 2));
        for _ in 0..4000 {
            assert_eq!(kernel.run(FROM_POD, &spoofed).0, Verdict::Drop);
        }
        let told = kernel.events().len() as u64;
        assert!(told < 4000, "256 KiB hold no more");
        assert_eq!(kernel.count(Reason::INVALID_SOURCE_IP, Direction::EGRESS), 4000);
        assert_eq!(kernel.count(Reason::EVENT_LOST, Direction::EGRESS), 4000 - told);
    }
}
