//! A host whose filters drop everything that it forwards, as some software leaves them: pods go on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use axoneme_node::link::veth::VethSpec;
use axoneme_node::link::{Links, Mac};
use axoneme_proto::address::to_bytes;
use axoneme_proto::nodesync::Delta;
use axoneme_proto::{Scope, Table, tables};
use common::host::Cgroup;
use common::{Pod, block_on, ip, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network};
use daemon::{Daemon, OPERATOR, everything, ip_command, prepare, row};

/// Two pods without policies; native routing.
fn delta() -> Delta {
    let mut delta = everything();
    let settings = tables::Settings {
        routing_mode: tables::RoutingMode::Native.into(),
        pod_cidrs: vec![tables::Prefix::new(ip("10.0.0.0"), 8)],
        masquerade_ipv4: true,
        ipv4: true,
        ..Default::default()
    };
    let policy = tables::Policy { identity: 100, ..Default::default() };
    let second = tables::Endpoint { identity: 100, addresses: vec![to_bytes(ip("10.1.0.6"))], ..Default::default() };
    delta.upserts.extend([
        row(&Scope::Cluster, Table::Settings, "", 10, &settings),
        row(&Scope::Policy(100), Table::Policy, "100", 11, &policy),
        row(&Scope::Node("n1".into()), Table::Endpoint, "second", 12, &second),
    ]);
    delta.to_revision = 12;
    delta
}

/// Something that listens, and whether somebody reaches it.
fn reaches(client: impl FnOnce(&str) -> bool, listener: TcpListener) {
    let address = listener.local_addr().unwrap().to_string();
    assert!(client(&address), "{address} is not reached");
}

fn connects(address: &str) -> bool {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(3)).is_ok()
}

fn from(pod: &Pod) -> impl FnOnce(&str) -> bool {
    let file = pod.namespace();
    move |address| {
        let address = address.to_owned();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            connects(&address)
        });
        thread.join().unwrap()
    }
}

fn on(pod: &Pod, address: &'static str) -> TcpListener {
    pod.inside(move || TcpListener::bind((address, 8080)).unwrap())
}

#[test]
fn pods_stay_connected_on_a_host_that_drops_what_it_forwards() {
    if !privileged("pods_stay_connected_on_a_host_that_drops_what_it_forwards") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("forward"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            // Behind the uplink is a machine, which knows the way to pods.
            ip_command("link del uplink0");
            let outside = Pod::new();
            let spec = VethSpec {
                host_name: "uplink0".into(),
                pod_name: "peer0".into(),
                host_mac: Mac::derived_from("here"),
                pod_mac: Mac::derived_from("there"),
                mtu: 1500,
                alias: String::new(),
            };
            Links::connect().unwrap().create_veth(&spec, &outside.namespace()).await.unwrap();
            for command in
                ["link set uplink0 up", "address add 192.0.2.1/24 dev uplink0", "route add default via 192.0.2.254"]
            {
                ip_command(command);
            }
            outside.inside(|| {
                for command in
                    ["link set peer0 up", "address add 192.0.2.254/24 dev peer0", "route add 10.1.0.0/24 via 192.0.2.1"]
                {
                    ip_command(command);
                }
            });

            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let mut daemon = Daemon::start(folder);
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, false).await;
            session.delta(delta()).await;
            while session.ack().await.attempted < 12 {}
            daemon.ready().await;
            let (first, second) = (Pod::new(), Pod::new());
            daemon.plugin("ADD", "pod", &first.path()).await.unwrap();
            daemon.plugin("ADD", "second", &second.path()).await.unwrap();

            let drop = Command::new("iptables").args(["-P", "FORWARD", "DROP"]).status().unwrap();
            assert!(drop.success());
            reaches(from(&first), on(&outside, "192.0.2.254"));
            reaches(from(&outside), on(&first, "10.1.0.5"));
            reaches(from(&first), on(&second, "10.1.0.6"));
            reaches(from(&first), TcpListener::bind(("192.0.2.1", 8080)).unwrap());
            reaches(connects, on(&first, "10.1.0.5"));
            let counted = Command::new("iptables").args(["-nvxL", "FORWARD"]).output().unwrap();
            let counted = String::from_utf8(counted.stdout).unwrap();
            assert!(counted.starts_with("Chain FORWARD (policy DROP 0 packets"), "{counted}");
        });
    });
}
