//! What the programs cost, next to the same without them in the same run:
//! `cargo test --release -p axoneme-bpf --test speed -- --ignored --nocapture`. ROUNDS (default 8) sets how often each pair runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axoneme_bpf::programs::{FROM_OVERLAY, FROM_POD, FROM_UPLINK, TO_OVERLAY, TO_POD, TO_UPLINK};
use common::cluster::{Cluster, Node, Routing};
use common::netns::Netns;
use common::node::{self, Net, at};
use common::packet;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const ROUND: Duration = Duration::from_secs(1);
const PORT: u16 = 5000;

/// Two ends and the address of the second.
struct Path<'a> {
    name: &'a str,
    client: &'a Netns,
    server: &'a Netns,
    address: SocketAddr,
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    // One CPU is all there may be.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Runs a client and a server of one connection on CPUs of their own, for a round.
fn connection<R: Send>(
    path: &Path,
    client: impl FnOnce(TcpStream) -> R + Send,
    server: impl FnOnce(TcpStream) + Send,
) -> R {
    let listener = path.server.run(|| TcpListener::bind(path.address).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            server(listener.accept().unwrap().0);
        });
        path.client.run(|| {
            pin(0);
            let stream = TcpStream::connect(path.address).unwrap();
            stream.set_nodelay(true).unwrap();
            client(stream)
        })
    })
}

/// Gbit/s of one stream.
fn stream(path: &Path) -> f64 {
    connection(
        path,
        |mut stream| {
            let block = vec![7; 128 << 10];
            let (start, mut sent) = (Instant::now(), 0);
            while start.elapsed() < ROUND {
                stream.write_all(&block).unwrap();
                sent += block.len();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // The server closes when it has everything.
            let _ = stream.read(&mut [0]);
            sent as f64 * 8.0 / start.elapsed().as_nanos() as f64
        },
        |mut stream| {
            let mut buffer = vec![0; 256 << 10];
            while stream.read(&mut buffer).unwrap() > 0 {}
        },
    )
}

/// Microseconds of a byte there and one back.
fn ping_pong(path: &Path) -> f64 {
    connection(
        path,
        |mut stream| {
            let (start, mut rounds) = (Instant::now(), 0);
            while start.elapsed() < ROUND / 2 {
                stream.write_all(&[1]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                rounds += 1;
            }
            start.elapsed().as_micros() as f64 / f64::from(rounds)
        },
        |mut stream| {
            stream.set_nodelay(true).unwrap();
            while stream.read_exact(&mut [0]).is_ok() {
                if stream.write_all(&[1]).is_err() {
                    break;
                }
            }
        },
    )
}

/// Connections opened and closed per second.
fn connections(path: &Path) -> f64 {
    let listener = path.server.run(|| TcpListener::bind(path.address).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            while !done.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
        });
        path.client.run(|| {
            pin(0);
            let (start, mut opened) = (Instant::now(), 0);
            while start.elapsed() < ROUND / 2 {
                // A reset leaves no TIME_WAIT, which would run out of ports.
                let stream = TcpStream::connect(path.address).unwrap();
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
                opened += 1;
            }
            let rate = f64::from(opened) / start.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect(path.address);
            rate
        })
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

privileged! {
    #[ignore = "a benchmark"]
    fn nanoseconds_a_packet() {
        let mut kernel = node::kernel();
        for net in Net::BOTH {
            let tcp = |source, destination| packet::tcp(source, destination, packet::ACK);
            let (pod, world, host) = (at(net.client(), 40000), at(net.world(), 443), at(net.host(), 443));
            let node = at(net.node(), 443);
            kernel.run(FROM_POD, &tcp(pod, world));
            kernel.run(TO_POD, &tcp(host, pod));
            let cases = [
                ("pod to the world", FROM_POD, tcp(pod, world)),
                ("pod to another node", FROM_POD, tcp(pod, node)),
                ("pod to its host, reply", FROM_POD, tcp(pod, host)),
                ("world to pod, reply", TO_POD, tcp(world, pod)),
                ("host to pod", TO_POD, tcp(host, pod)),
                ("tunnel packet in", FROM_UPLINK, packet::udp(node, at(net.host(), node::TUNNEL_PORT))),
                ("tunnel packet out", TO_UPLINK, packet::udp(host, at(net.node(), node::TUNNEL_PORT))),
                ("host to node", TO_UPLINK, tcp(at(net.host(), 40000), node)),
                ("node to host", FROM_UPLINK, tcp(node, at(net.host(), 40000))),
            ];
            for (name, program, packet) in cases {
                println!("{net:?} {name:<24} {program:<12} {:>5} ns", kernel.nanoseconds(program, &packet));
            }
        }
    }
}

/// What the programs of a node took for each of their packets while something was measured.
fn print_costs(node: &Node, before: &[(u64, Duration)]) {
    for ((name, count, time), (runs, spent)) in costs(node).into_iter().zip(before) {
        let packets = count - runs;
        if let Some(each) = (time - *spent).as_nanos().checked_div(u128::from(packets)) {
            println!("    {name:<14} {packets:>9} packets, {each:>5} ns each");
        }
    }
}

fn costs(node: &Node) -> Vec<(&'static str, u64, Duration)> {
    let programs = [FROM_POD, TO_POD, FROM_UPLINK, TO_UPLINK, FROM_OVERLAY, TO_OVERLAY];
    let cost = |name| {
        let info = node.kernel.ebpf.program(name).unwrap().info().unwrap();
        (name, info.run_count(), info.run_time())
    };
    programs.map(cost).into()
}

privileged! {
    #[ignore = "a benchmark"]
    fn nanoseconds_of_each_program_in_traffic() {
        let _counting = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
        for routing in [Routing::Vxlan, Routing::Direct] {
            let cluster = Cluster::routed(routing);
            for net in Net::BOTH {
                let address = at(net.remote(), PORT);
                let path = Path { name: "", client: &cluster.client.netns, server: &cluster.remote.netns, address };
                for (what, measure) in [("ping-pong", ping_pong as fn(&Path) -> f64), ("connections", connections)] {
                    println!("{routing:?} {net:?} {what}");
                    for node in [&cluster.here, &cluster.there] {
                        let before: Vec<_> = costs(node).into_iter().map(|(_, count, time)| (count, time)).collect();
                        measure(&path);
                        print_costs(node, &before);
                    }
                }
            }
        }
    }
}

privileged! {
    #[ignore = "a benchmark"]
    fn pod_to_pod_next_to_host_to_host() {
        let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        println!("{} CPUs{}, kernel {}", std::thread::available_parallelism().unwrap(), model.trim_start(), kernel.trim());

        let cluster = Cluster::new();
        let (plain_client, plain_server) = (Netns::new(), Netns::new());
        plain_client.ip(&format!("link add eth0 type veth peer name eth0 netns {}", plain_server.path()));
        for (netns, address) in [(&plain_client, "203.0.113.1"), (&plain_server, "203.0.113.2")] {
            netns.ip(&format!("addr add {address}/24 dev eth0"));
            netns.ip("link set eth0 up");
        }
        let host = Path {
            name: "host to host, no programs",
            client: &plain_client,
            server: &plain_server,
            address: "203.0.113.2:5000".parse().unwrap(),
        };
        let client = &cluster.client.netns;
        let paths = [
            Path { name: "host to host", client: &cluster.here.netns, server: &cluster.there.netns, address: at(Net::V4.node(), PORT) },
            Path { name: "pod to pod, one node", client, server: &cluster.server.netns, address: at(Net::V4.server(), PORT) },
            Path { name: "pod to pod, VXLAN", client, server: &cluster.remote.netns, address: at(Net::V4.remote(), PORT) },
            Path { name: "pod to pod, VXLAN, IPv6", client, server: &cluster.remote.netns, address: at(Net::V6.remote(), PORT) },
        ];
        type Measure = fn(&Path) -> f64;
        let sets: [(&str, Measure); 3] = [("Gbit/s", stream), ("us a round trip", ping_pong), ("connections/s", connections)];
        for (unit, measure) in sets {
            for path in &paths {
                let pairs: Vec<_> = (0..rounds).map(|_| (measure(path), measure(&host))).collect();
                let ratio = median(pairs.iter().map(|(ours, theirs)| ours / theirs).collect());
                let ours = median(pairs.iter().map(|pair| pair.0).collect());
                let theirs = median(pairs.iter().map(|pair| pair.1).collect());
                println!("{:<26} {ours:>9.1} {unit:<16} {}: {theirs:>9.1}   ratio {ratio:.2}", path.name, host.name);
            }
        }
    }
}
