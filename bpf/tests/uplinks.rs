//! Several uplinks: traffic leaves with the address of the device that it leaves by.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::Inet;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::{FROM_POD, FROM_UPLINK, TO_UPLINK};
use axoneme_bpf::uplink::Uplink;
use common::kernel::{Kernel, Verdict};
use common::netns;
use common::node::{self, Net, at};
use common::packet::{self, ACK, SYN, Seen};

/// The device with the node's address.
const FIRST: u32 = 1;

/// The address that the second uplink has of its own.
fn second(net: Net) -> IpAddr {
    let text = if net == Net::V4 { "203.0.113.1" } else { "2001:db8:113::1" };
    text.parse().unwrap()
}

fn pod(net: Net, port: u16) -> SocketAddr {
    at(net.client(), port)
}

/// A node with two uplinks, and the ifindex of the second one, which has addresses of its own.
fn two_uplinks() -> (Kernel, u32) {
    let mut kernel = node::kernel();
    let uplink = netns::open(1500);
    for net in Net::BOTH {
        kernel.address(second(net), Address::host());
    }
    holds(&mut kernel, uplink, second(Net::V4).into(), second(Net::V6).into());
    kernel.config(Config { flags: node::config().flags | ConfigFlags::UPLINKS, ..node::config() });
    (kernel, uplink)
}

fn holds(kernel: &mut Kernel, uplink: u32, ipv4: Inet, ipv6: Inet) {
    kernel.uplink(uplink, Uplink { ipv4, ipv6, ..Uplink::default() });
}

/// Whom the world sees behind a packet that leaves by a device.
fn seen(kernel: &mut Kernel, packet: &[u8], ifindex: u32) -> SocketAddr {
    let (verdict, out) = kernel.run_on(TO_UPLINK, packet, ifindex);
    assert_eq!(verdict, Verdict::Pass, "{:?}", kernel.events());
    Seen::read(&out).source
}

privileged! {
    fn a_pod_leaves_with_the_address_of_the_device() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            let world = at(net.world(), 443);
            for packet in [
                packet::tcp(pod(net, 40000), world, SYN),
                packet::udp(pod(net, 40000), world),
                packet::echo(net.client(), net.world(), 40000, false),
            ] {
                assert_eq!(seen(&mut kernel, &packet, uplink), at(second(net), 40000));
            }
            let packet = packet::udp(pod(net, 40001), world);
            assert_eq!(seen(&mut kernel, &packet, FIRST), at(net.host(), 40001));
        }
    }
}

privileged! {
    fn a_device_with_addresses_of_one_family_lends_the_nodes_in_the_other() {
        let (mut kernel, uplink) = two_uplinks();
        holds(&mut kernel, uplink, second(Net::V4).into(), Inet::ZERO);
        for (net, address) in [(Net::V4, second(Net::V4)), (Net::V6, Net::V6.host())] {
            let packet = packet::udp(pod(net, 40000), at(net.world(), 53));
            assert_eq!(seen(&mut kernel, &packet, uplink), at(address, 40000));
        }
        // Nor does the node need one in a family that the device has.
        kernel.config(Config { flags: node::config().flags | ConfigFlags::UPLINKS, node_ipv4: Inet::ZERO, ..node::config() });
        let packet = packet::udp(pod(Net::V4, 40001), at(Net::V4.world(), 53));
        assert_eq!(seen(&mut kernel, &packet, uplink), at(second(Net::V4), 40001));
        assert_eq!(kernel.dropped(TO_UPLINK, &packet::udp(pod(Net::V4, 40002), at(Net::V4.world(), 53))).reason, Reason::NAT_NO_MAPPING);
    }
}

privileged! {
    fn a_reply_finds_its_pod_by_whatever_device_it_comes() {
        for net in Net::BOTH {
            // Its row comes a moment after the address was used, or went a moment before the reply came.
            for known in [true, false] {
                let (mut kernel, uplink) = two_uplinks();
                if !known {
                    kernel.delete_address(second(net));
                }
                let world = at(net.world(), 443);
                seen(&mut kernel, &packet::tcp(pod(net, 40000), world, SYN), uplink);
                let (verdict, reply) = kernel.forwarded(FROM_UPLINK, &packet::tcp(world, at(second(net), 40000), SYN | ACK));
                assert_eq!((verdict, reply.ends()), (Verdict::Redirect, (world, pod(net, 40000))));

                let sent = packet::udp(pod(net, 1024), world);
                let out = kernel.run_on(TO_UPLINK, &sent, uplink).1;
                let (verdict, error) = kernel.run(FROM_UPLINK, &packet::unreachable(net.world(), &out));
                assert_eq!((verdict, packet::quoted(&error)), (Verdict::Redirect, (pod(net, 1024), world)));
            }
        }
    }
}

privileged! {
    fn what_is_for_the_host_at_its_second_address_stays_the_hosts() {
        for net in Net::BOTH {
            let (mut kernel, _) = two_uplinks();
            for port in [22, 40000] {
                let packet = packet::tcp(at(net.world(), 50000), at(second(net), port), SYN);
                assert_eq!(kernel.run(FROM_UPLINK, &packet), (Verdict::Pass, packet));
            }
            let from_host = packet::tcp(at(second(net), 50000), at(net.host(), 22), SYN);
            assert_eq!(kernel.dropped(FROM_UPLINK, &from_host).reason, Reason::INVALID_SOURCE_IP);
        }
    }
}

privileged! {
    fn the_hosts_own_flow_keeps_its_port_and_shares_it_with_nobody() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            let world = at(net.world(), 443);
            let host = packet::tcp(at(second(net), 40000), world, SYN);
            assert_eq!(kernel.run_on(TO_UPLINK, &host, uplink), (Verdict::Pass, host));
            assert_ne!(seen(&mut kernel, &packet::tcp(pod(net, 40000), world, SYN), uplink).port(), 40000);
            // By the other uplink it is another address, where the port is free.
            assert_eq!(seen(&mut kernel, &packet::tcp(at(net.server(), 40000), world, SYN), FIRST), at(net.host(), 40000));
            let reply = packet::tcp(world, at(second(net), 40000), SYN | ACK);
            assert_eq!(kernel.run(FROM_UPLINK, &reply), (Verdict::Pass, reply), "the host's reply");

            // The pod was first.
            let other = at(net.world(), 444);
            assert_eq!(seen(&mut kernel, &packet::tcp(pod(net, 40000), other, SYN), uplink), at(second(net), 40000));
            let moved = seen(&mut kernel, &packet::tcp(at(second(net), 40000), other, SYN), uplink);
            assert_eq!(moved.ip(), second(net));
            assert_ne!(moved.port(), 40000);
            let (verdict, back) = kernel.forwarded(FROM_UPLINK, &packet::tcp(other, moved, SYN | ACK));
            assert_eq!((verdict, back.destination), (Verdict::Pass, at(second(net), 40000)));
        }
    }
}

privileged! {
    fn a_port_at_which_the_host_listens_is_not_given_to_a_pod_on_any_uplink() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            // The namespace's uplink0 has the node's addresses.
            holds(&mut kernel, uplink, Net::V4.host().into(), Net::V6.host().into());
            let _listener = TcpListener::bind(at(net.host(), 40000)).unwrap();
            let packet = packet::tcp(pod(net, 40000), at(net.world(), 443), SYN);
            assert_ne!(seen(&mut kernel, &packet, uplink).port(), 40000);
        }
    }
}

privileged! {
    fn without_a_row_a_device_lends_the_nodes_address() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            let packet = packet::udp(pod(net, 40000), at(net.world(), 53));
            assert_eq!(seen(&mut kernel, &packet, uplink), at(second(net), 40000));
            kernel.delete_uplink(uplink);
            assert_eq!(seen(&mut kernel, &packet, uplink), at(net.host(), 40000), "the flow is renewed");

            let (mut kernel, uplink) = two_uplinks();
            kernel.config(node::config());
            assert_eq!(seen(&mut kernel, &packet, uplink), at(net.host(), 40000), "without the flag nobody looks");
        }
    }
}

privileged! {
    fn an_open_connection_keeps_its_address_while_the_host_has_it_on_that_device() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            let world = at(net.world(), 443);
            let (open, data) = (packet::tcp(pod(net, 40000), world, SYN), packet::tcp(pod(net, 40000), world, ACK));
            kernel.forwarded(FROM_POD, &open);
            assert_eq!(seen(&mut kernel, &open, uplink), at(second(net), 40000));
            // The device gets another address, which new connections have from now on.
            let third = net.node_overlay();
            let inet = Inet::from(third);
            holds(&mut kernel, uplink, inet, inet);
            assert_eq!(seen(&mut kernel, &data, uplink), at(second(net), 40000));
            let (verdict, reply) = kernel.forwarded(FROM_UPLINK, &packet::tcp(world, at(second(net), 40000), ACK));
            assert_eq!((verdict, reply.destination), (Verdict::Redirect, pod(net, 40000)));
            assert_eq!(seen(&mut kernel, &packet::tcp(pod(net, 40001), world, SYN), uplink), at(third, 40001));

            // Its own address goes from the host: the server is to know at once.
            kernel.delete_address(second(net));
            assert_eq!(seen(&mut kernel, &data, uplink), at(third, 40000));
            assert_eq!(seen(&mut kernel, &data, uplink), at(third, 40000));
        }
    }
}

privileged! {
    fn a_connection_that_moves_to_another_device_gets_the_address_of_that() {
        for net in Net::BOTH {
            let (mut kernel, uplink) = two_uplinks();
            let world = at(net.world(), 443);
            seen(&mut kernel, &packet::tcp(pod(net, 40000), world, SYN), uplink);
            let data = packet::tcp(pod(net, 40000), world, ACK);
            for (device, address) in [(FIRST, net.host()), (uplink, second(net))] {
                assert_eq!(seen(&mut kernel, &data, device), at(address, 40000));
            }
            // An attempt that was begun with the wrong address, as before the device was known, is as good as new.
            kernel.delete_uplink(uplink);
            let open = packet::tcp(pod(net, 40001), world, SYN);
            assert_eq!(seen(&mut kernel, &open, uplink), at(net.host(), 40001));
            holds(&mut kernel, uplink, second(Net::V4).into(), second(Net::V6).into());
            assert_eq!(seen(&mut kernel, &open, uplink), at(second(net), 40001));
        }
    }
}
