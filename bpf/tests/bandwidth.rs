//! How fast a pod may send and get.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::inet::Direction;
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::programs::{FROM_POD, TO_POD};
use common::cluster::Cluster;
use common::kernel::{Kernel, Verdict};
use common::node::{self, CLIENT_IFINDEX, Net, SERVER_IFINDEX, at};
use common::packet;

const EGRESS: Direction = Direction::EGRESS;
const INGRESS: Direction = Direction::INGRESS;
/// Slow enough that what a test sends at once takes no time.
const SLOW: u64 = 100_000;
/// What is let through ahead of the clock, in bytes.
const AHEAD: usize = 128 << 10;

/// Sends packets until one is dropped. Returns the bytes that passed, and why the last did not.
fn until_dropped(kernel: &mut Kernel, program: &str, packet: &[u8], segment: u32) -> (usize, Reason, Direction) {
    for sent in 1.. {
        let (verdict, _) = kernel.run_segmented(program, packet, segment);
        if verdict == Verdict::Drop {
            let event = kernel.events()[0];
            return ((sent - 1) * packet.len(), event.reason, event.direction);
        }
        assert!(sent * packet.len() < 10 * AHEAD, "nothing was dropped");
    }
    unreachable!()
}

/// The client's packet of 1000 bytes to the server.
fn kilobyte(net: Net) -> Vec<u8> {
    let empty = packet::datagram(at(net.client(), 40000), at(net.server(), 53), b"").len();
    packet::datagram(at(net.client(), 40000), at(net.server(), 53), &vec![0; 1000 - empty])
}

privileged! {
    fn what_a_pod_sends_beyond_its_limit_is_dropped() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            kernel.bandwidth(CLIENT_IFINDEX, EGRESS, SLOW);
            kernel.run(FROM_POD, &kilobyte(net));
            kernel.endpoint(CLIENT_IFINDEX, Endpoint { flags: EndpointFlags::EGRESS_LIMITED, ..node::client() });
            let (bytes, reason, direction) = until_dropped(&mut kernel, FROM_POD, &kilobyte(net), 0);
            assert_eq!((reason, direction), (Reason::BANDWIDTH_LIMIT, EGRESS));
            // The clock runs on meanwhile.
            assert!((AHEAD..AHEAD + 40_000).contains(&bytes), "{bytes} bytes");
        }
    }
}

privileged! {
    fn what_a_pod_gets_is_limited_whoever_delivers_it() {
        for net in Net::BOTH {
            let mut kernel = node::kernel();
            for ifindex in [CLIENT_IFINDEX, SERVER_IFINDEX] {
                kernel.bandwidth(ifindex, INGRESS, SLOW);
            }
            let flags = EndpointFlags::INGRESS_LIMITED;
            kernel.endpoint(SERVER_IFINDEX, Endpoint { flags, ..node::server() });
            let (bytes, reason, direction) = until_dropped(&mut kernel, FROM_POD, &kilobyte(net), 0);
            assert_eq!((reason, direction), (Reason::BANDWIDTH_LIMIT, INGRESS));
            assert!((AHEAD..AHEAD + 40_000).contains(&bytes), "redirected: {bytes} bytes");

            kernel.endpoint(CLIENT_IFINDEX, Endpoint { flags, ..node::client() });
            let packet = packet::datagram(at(net.host(), 40000), at(net.client(), 53), &[0; 900]);
            let (bytes, reason, direction) = until_dropped(&mut kernel, TO_POD, &packet, 0);
            assert_eq!((reason, direction), (Reason::BANDWIDTH_LIMIT, INGRESS));
            assert!((AHEAD..AHEAD + 40_000).contains(&bytes), "by the stack: {bytes} bytes");
        }
    }
}

privileged! {
    fn of_a_packet_that_will_be_cut_every_segments_headers_count() {
        let net = Net::V4;
        let mut kernel = node::kernel();
        kernel.bandwidth(CLIENT_IFINDEX, EGRESS, SLOW);
        kernel.endpoint(CLIENT_IFINDEX, Endpoint { flags: EndpointFlags::EGRESS_LIMITED, ..node::client() });
        // 42 bytes of headers for 42 bytes of payload each: nearly twice as much.
        let (bytes, reason, _) = until_dropped(&mut kernel, FROM_POD, &kilobyte(net), 42);
        assert_eq!(reason, Reason::BANDWIDTH_LIMIT);
        assert!((AHEAD / 2..AHEAD / 2 + 30_000).contains(&bytes), "{bytes} bytes");
    }
}

privileged! {
    fn without_a_row_or_with_a_rate_of_zero_nothing_is_limited() {
        let mut kernel = node::kernel();
        kernel.endpoint(CLIENT_IFINDEX, Endpoint { flags: EndpointFlags::EGRESS_LIMITED, ..node::client() });
        for _ in 0..2 {
            for _ in 0..500 {
                assert_eq!(kernel.run(FROM_POD, &kilobyte(Net::V4)).0, Verdict::Redirect);
            }
            kernel.bandwidth(CLIENT_IFINDEX, EGRESS, 0);
        }
    }
}

/// Bytes per second that a TCP stream to a pod of the other node reaches.
fn stream(cluster: &Cluster, net: Net) -> f64 {
    let address = at(net.remote(), 5000);
    let listener = cluster.remote.netns.run(|| TcpListener::bind(address).unwrap());
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut accepted = listener.accept().unwrap().0;
            let (mut buffer, start, mut received) = (vec![0; 256 << 10], Instant::now(), 0);
            // What was sent ahead is not the rate.
            let mut from = None;
            loop {
                let length = accepted.read(&mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                if start.elapsed() > Duration::from_millis(500) {
                    from.get_or_insert((Instant::now(), received));
                }
                received += length;
            }
            let (since, before) = from.expect("half a second of it");
            (received - before) as f64 / since.elapsed().as_secs_f64()
        });
        cluster.client.netns.run(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(2500) {
                stream.write_all(&[7; 8 << 10]).unwrap();
            }
        });
        server.join().unwrap()
    })
}

privileged! {
    fn tcp_comes_near_the_limit_and_not_beyond() {
        let mut cluster = Cluster::new();
        for (rate, net) in [(1_250_000, Net::V4), (12_500_000, Net::V6)] {
            for (pod, node, direction, flag) in [
                (&cluster.client, &mut cluster.here, EGRESS, EndpointFlags::EGRESS_LIMITED),
                (&cluster.remote, &mut cluster.there, INGRESS, EndpointFlags::INGRESS_LIMITED),
            ] {
                node.kernel.bandwidth(pod.ifindex, direction, rate);
                node.kernel.endpoint(pod.ifindex, Endpoint { flags: flag, ..pod.endpoint });
            }
            let reached = stream(&cluster, net) / rate as f64;
            println!("{rate} bytes/s, both ends limited: TCP's payload reaches {reached:.2}");
            assert!((0.6..1.15).contains(&reached), "{reached:.2} of the limit");
        }
    }
}
