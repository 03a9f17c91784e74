//! What masquerading leaves alone: ports of the host's sockets, and excluded destinations.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::{TcpListener, UdpSocket};

use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::{FROM_UPLINK, TO_UPLINK};
use common::kernel::{Kernel, Verdict};
use common::netns;
use common::node::{self, Net, at};
use common::packet::{self, SYN, Seen};

fn excluding(net: Net) -> Kernel {
    let mut kernel = node::kernel();
    let config = node::config();
    kernel.config(Config { flags: config.flags | ConfigFlags::EXCLUSIONS, ..config });
    kernel.exclude(net.world(), if net == Net::V4 { 24 } else { 64 });
    kernel
}

privileged! {
    fn a_port_at_which_the_host_listens_is_not_given_to_a_pod() {
        for net in Net::BOTH {
            for any in [false, true] {
                let mut kernel = node::kernel();
                netns::open(1500);
                let address = match (any, net) {
                    (false, _) => net.host(),
                    (true, Net::V4) => "0.0.0.0".parse().unwrap(),
                    (true, Net::V6) => "::".parse().unwrap(),
                };
                let _tcp = TcpListener::bind(at(address, 40000)).unwrap();
                let _udp = UdpSocket::bind(at(address, 40000)).unwrap();
                let (pod, world) = (at(net.client(), 40000), at(net.world(), 443));
                for packet in [packet::tcp(pod, world, SYN), packet::udp(pod, world)] {
                    let (_, seen) = kernel.forwarded(TO_UPLINK, &packet);
                    assert_eq!(seen.source.ip(), net.host());
                    assert_ne!(seen.source.port(), 40000, "{address}, protocol {}", seen.protocol);
                }
                let (_, seen) = kernel.forwarded(TO_UPLINK, &packet::udp(at(net.client(), 40001), world));
                assert_eq!(seen.source.port(), 40001, "nobody has it");
            }
        }
    }
}

privileged! {
    fn the_hosts_own_flow_keeps_its_sockets_port() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            netns::open(1500);
            let _socket = UdpSocket::bind(at(net.host(), 40000)).unwrap();
            let packet = packet::udp(at(net.host(), 40000), at(net.world(), 53));
            assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, packet));
        }
    }
}

privileged! {
    fn excluded_destinations_see_pods_own_addresses_and_answer_them() {
        for net in Net::BOTH {
            let mut kernel = excluding(net);
            let (pod, world) = (at(net.client(), 1024), at(net.world(), 443));
            for packet in [
                packet::tcp(pod, world, SYN),
                packet::udp(pod, world),
                packet::echo(net.client(), net.world(), 7, false),
                packet::ip(net.client(), net.world(), 47, vec![0; 8]),
                packet::unreachable(net.client(), &packet::udp(world, pod)),
            ] {
                assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, packet));
            }
            let (verdict, seen) = kernel.forwarded(FROM_UPLINK, &packet::udp(world, pod));
            assert_eq!((verdict, seen.destination_mac), (Verdict::Redirect, node::client().pod_mac));
        }
    }
}

privileged! {
    fn all_others_are_still_masqueraded() {
        for net in Net::BOTH {
            let mut kernel = excluding(net);
            let (_, seen) = kernel.forwarded(TO_UPLINK, &packet::udp(at(net.client(), 40000), at(net.node(), 53)));
            assert_eq!(seen.source.ip(), net.host());
        }
        // One family's exclusions are not the other's.
        let mut kernel = excluding(Net::V4);
        let packet = packet::udp(at(Net::V6.client(), 40000), at(Net::V6.world(), 53));
        assert_eq!(kernel.forwarded(TO_UPLINK, &packet).1.source.ip(), Net::V6.host());
    }
}

privileged! {
    fn a_flow_that_is_masqueraded_already_stays_so() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            let packet = packet::udp(at(net.client(), 40000), at(net.world(), 53));
            let masqueraded = kernel.run(TO_UPLINK, &packet).1;
            assert_eq!(Seen::read(&masqueraded).source.ip(), net.host());
            let config = node::config();
            kernel.config(Config { flags: config.flags | ConfigFlags::EXCLUSIONS, ..config });
            kernel.exclude(net.world(), net.bits());
            assert_eq!(kernel.run(TO_UPLINK, &packet), (Verdict::Pass, masqueraded));
            let new = packet::udp(at(net.client(), 40001), at(net.world(), 53));
            assert_eq!(kernel.run(TO_UPLINK, &new), (Verdict::Pass, new));
        }
    }
}

privileged! {
    fn without_the_flag_nobody_looks_for_exclusions() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.exclude(net.world(), net.bits());
            let gre = packet::ip(net.client(), net.world(), 47, vec![0; 8]);
            assert_eq!(kernel.dropped(TO_UPLINK, &gre).reason, Reason::NAT_UNSUPPORTED_PROTOCOL);
            let (_, seen) = kernel.forwarded(TO_UPLINK, &packet::udp(at(net.client(), 40000), at(net.world(), 53)));
            assert_eq!(seen.source.ip(), net.host());
        }
    }
}
