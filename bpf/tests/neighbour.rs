//! ARP and neighbour discovery: the host side answers a pod for everybody, and believes only what is the pod's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::kernel::Verdict;
use common::node::{self, Net};
use common::packet::{self, ICMPV6, SOURCE_MAC, Seen};

const BROADCAST: [u8; 6] = [0xff; 6];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    address
}

fn arp(operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut frame = [BROADCAST, SOURCE_MAC].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

/// The client asks who has an address.
fn asks(target: Ipv4Addr) -> Vec<u8> {
    arp(REQUEST, (SOURCE_MAC, v4(Net::V4.client())), ([0; 6], target))
}

/// A solicitation or advertisement with a MAC of the sender.
fn discovery(kind: u8, source: &str, target: &str, mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.parse::<Ipv6Addr>().unwrap().octets());
    message.extend([1, 1]);
    message.extend(mac);
    let packet = packet::ip(source.parse().unwrap(), "ff02::1:ff00:1".parse().unwrap(), ICMPV6, message);
    packet::with_ttl(packet, 255)
}

privileged! {
    fn whoever_a_pod_looks_for_is_the_host() {
        let mut kernel = node::kernel();
        let own = (SOURCE_MAC, v4(Net::V4.client()));
        for target in ["169.254.1.1", "10.0.1.11", "10.0.2.10", "198.51.100.7"].map(|text| text.parse().unwrap()) {
            let (verdict, out) = kernel.run(FROM_POD, &asks(target));
            assert_eq!(verdict, Verdict::Redirect);
            let mut expected = arp(REPLY, (node::client().host_mac, target), own);
            expected[..6].copy_from_slice(&SOURCE_MAC);
            expected[6..12].copy_from_slice(&node::client().host_mac);
            assert_eq!(out, expected, "{target}");
            assert_eq!(kernel.run(TO_POD, &out).0, Verdict::Pass, "and the answer reaches the pod");
        }
    }
}

privileged! {
    fn what_a_pod_says_of_its_own_address_reaches_the_host() {
        let mut kernel = node::kernel();
        let own = (SOURCE_MAC, v4(Net::V4.client()));
        let frames = [
            asks(own.1),
            arp(REPLY, own, (OTHER_MAC, v4(Net::V4.host()))),
            arp(REQUEST, (SOURCE_MAC, Ipv4Addr::UNSPECIFIED), ([0; 6], own.1)),
        ];
        for frame in frames {
            assert_eq!(kernel.run(FROM_POD, &frame), (Verdict::Pass, frame));
        }
    }
}

privileged! {
    fn nobody_speaks_arp_for_others() {
        let mut kernel = node::kernel();
        let (host, own) = (([0; 6], v4(Net::V4.host())), v4(Net::V4.client()));
        for operation in [REQUEST, REPLY] {
            let others_address = arp(operation, (SOURCE_MAC, v4(Net::V4.server())), host);
            assert_eq!(kernel.dropped(FROM_POD, &others_address).reason, Reason::INVALID_SOURCE_IP);
            let others_mac = arp(operation, (OTHER_MAC, own), host);
            assert_eq!(kernel.dropped(FROM_POD, &others_mac).reason, Reason::INVALID_SOURCE_MAC);
            let mut others_frame = arp(operation, (SOURCE_MAC, own), host);
            others_frame[6..12].copy_from_slice(&OTHER_MAC);
            assert_eq!(kernel.dropped(FROM_POD, &others_frame).reason, Reason::INVALID_SOURCE_MAC);
        }
        let another_is_probed = arp(REQUEST, (SOURCE_MAC, Ipv4Addr::UNSPECIFIED), host);
        assert_eq!(kernel.dropped(FROM_POD, &another_is_probed).reason, Reason::INVALID_SOURCE_IP);
        assert_eq!(kernel.dropped(FROM_POD, &asks(own)[..30]).reason, Reason::INVALID_PACKET);
        let mut token_ring = asks(v4(Net::V4.host()));
        token_ring[15] = 6;
        assert_eq!(kernel.dropped(FROM_POD, &token_ring).reason, Reason::INVALID_PACKET);
    }
}

privileged! {
    fn a_solicitation_is_answered_with_the_hosts_mac() {
        let mut kernel = node::kernel();
        let host_mac = node::client().host_mac;
        for source in ["fd00:1::10", "fe80::42"] {
            for target in ["fe80::1", "fd00:1::11", "fd00:2::10", "2001:db8:ffff::7"] {
                let (verdict, out) = kernel.run(FROM_POD, &discovery(SOLICITATION, source, target, SOURCE_MAC));
                assert_eq!(verdict, Verdict::Redirect);
                // Reads checksums as well.
                let seen = Seen::read(&out);
                assert_eq!((seen.source.ip().to_string(), seen.destination.ip().to_string()), (target.into(), source.into()));
                assert_eq!((seen.source_mac, seen.destination_mac, seen.ttl), (host_mac, SOURCE_MAC, 255));
                let message = &out[54..];
                assert_eq!((message[0], message[4]), (ADVERTISEMENT, 0xe0));
                assert_eq!(message[8..24], target.parse::<Ipv6Addr>().unwrap().octets());
                assert_eq!((&message[24..26], &message[26..]), ([2, 1].as_slice(), host_mac.as_slice()));
                assert_eq!(kernel.run(TO_POD, &out).0, Verdict::Pass);
            }
        }
    }
}

privileged! {
    fn other_neighbour_discovery_reaches_the_host_and_routers_do_not_speak() {
        let mut kernel = node::kernel();
        let frames = [
            discovery(SOLICITATION, "fe80::42", "fd00:1::10", SOURCE_MAC),
            discovery(SOLICITATION, "::", "fd00:1::77", SOURCE_MAC),
            discovery(ADVERTISEMENT, "fd00:1::10", "fd00:1::10", SOURCE_MAC),
            packet::ip("fe80::42".parse().unwrap(), "ff02::2".parse().unwrap(), ICMPV6, vec![133, 0, 0, 0, 0, 0, 0, 0]),
            packet::ip("fe80::42".parse().unwrap(), "ff02::16".parse().unwrap(), ICMPV6, vec![143, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for frame in frames {
            assert_eq!(kernel.run(FROM_POD, &frame), (Verdict::Pass, frame));
        }
        for kind in [134, 137] {
            let message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            let frame = packet::ip("fe80::42".parse().unwrap(), "ff02::1".parse().unwrap(), ICMPV6, message);
            assert_eq!(kernel.dropped(FROM_POD, &frame).reason, Reason::FORBIDDEN_ICMPV6);
        }
    }
}

privileged! {
    fn nobody_solicits_for_others() {
        let mut kernel = node::kernel();
        for kind in [SOLICITATION, ADVERTISEMENT] {
            let frame = discovery(kind, "fd00:1::11", "fd00:2::10", SOURCE_MAC);
            assert_eq!(kernel.dropped(FROM_POD, &frame).reason, Reason::INVALID_SOURCE_IP);
        }
        let frame = discovery(SOLICITATION, "fd00:1::10", "fd00:2::10", OTHER_MAC);
        assert_eq!(kernel.dropped(FROM_POD, &frame).reason, Reason::INVALID_SOURCE_MAC);
    }
}

privileged! {
    fn the_neighbours_of_a_chained_pod_are_its_owners_business() {
        let mut kernel = node::kernel();
        kernel.endpoint(node::CLIENT_IFINDEX, Endpoint { flags: EndpointFlags::CHAINED, pod_mac: OTHER_MAC, ..node::client() });
        let frames = [
            asks("10.0.1.1".parse().unwrap()),
            arp(REPLY, (SOURCE_MAC, v4(Net::V4.client())), (OTHER_MAC, v4(Net::V4.server()))),
            discovery(SOLICITATION, "fd00:1::10", "fe80::1", SOURCE_MAC),
        ];
        for frame in frames {
            assert_eq!(kernel.run(FROM_POD, &frame), (Verdict::Pass, frame));
        }
    }
}
