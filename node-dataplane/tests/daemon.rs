//! The whole daemon, in a network namespace with a BPF file system of its own, against an operator in this process: from the
//! first join to a restart without any operator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use axoneme_bpf::address::{AddressKey, AddressKind};
use axoneme_bpf::bandwidth::BandwidthKey;
use axoneme_bpf::inet::Direction;
use axoneme_bpf::service::ServiceKey;
use axoneme_node::desired::pods::{CLOSED_POLICY, INIT_IDENTITY, OPEN_POLICY};
use axoneme_node::maps::Pinned;
use axoneme_node::reconcile::ops::MapOps;
use axoneme_proto::nodesync::Delta;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::{Scope, Table, tables};
use common::host::Cgroup;
use common::{Bottle, Pod, block_on, ip, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network, Operator};
use daemon::{Daemon, OPERATOR, everything, get, ip_command, prepare, row};

fn ip_output(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for what happens within a second on a machine that is not busy.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{what} after {:?}", start.elapsed());
}

async fn first_run(daemon: &mut Daemon, operator: &mut Operator, bottle: &Bottle, pod: &Pod) {
    let mut session = operator.sessions.recv().await.unwrap();
    session.welcome(1, false).await;
    session.delta(everything()).await;
    while session.ack().await.attempted < 9 {}
    daemon.ready().await;
    let result = daemon.plugin("ADD", "pod", &pod.path()).await.unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.0.5/32");
    let mut observed = operator.observed.recv().await.unwrap();
    let attached = loop {
        if let Some(Event::Attached(attached)) = observed.next().await.event {
            break attached;
        }
    };
    assert_eq!((attached.pod_uid.as_str(), attached.identity, attached.from_reserve), ("pod", 100, false));

    let maps = Pinned::open(&bottle.paths().maps()).unwrap();
    let kind = |address: &str| maps.addresses.get(&AddressKey::from(ip(address))).unwrap().map(|row| row.kind);
    assert_eq!(kind("10.1.0.5"), Some(AddressKind::ENDPOINT));
    let ifindex = maps.addresses.get(&AddressKey::from(ip("10.1.0.5"))).unwrap().unwrap().ifindex;
    let limit = |direction| {
        let key = BandwidthKey { ifindex, direction, ..BandwidthKey::default() };
        maps.bandwidth.get(&key).unwrap().map(|limit| limit.bytes_per_second)
    };
    assert_eq!((limit(Direction::EGRESS), limit(Direction::INGRESS)), (Some(10_000_000), None));
    assert_eq!(kind("10.1.0.1"), Some(AddressKind::HOST_OVERLAY));
    assert_eq!(kind("192.0.2.1"), Some(AddressKind::HOST));
    assert_eq!(kind("192.0.2.2"), Some(AddressKind::NODE));
    assert_eq!(kind("10.2.0.5"), Some(AddressKind::POD));
    assert_eq!(maps.services.get(&ServiceKey::new(ip("10.96.0.10"), 80, 6)).unwrap().map(|s| s.backends), Some(0));
    // What others do to the node is followed, into pods as well, and undone where it was ours.
    ip_command("link set uplink0 mtu 1400");
    let link = || pod.inside(|| ip_output("-o link show eth0") + &ip_output("route show default"));
    eventually("the pod's MTU follows", || link().matches("mtu 1350").count() == 2).await;
    assert_eq!(maps.config.get(&0).unwrap().map(|config| config.pod_mtu), Some(1350));
    for route in ["10.1.0.5", "10.2.0.0/24"] {
        ip_command(&format!("route del {route}"));
    }
    eventually("routes are there again", || {
        let routes = ip_output("route");
        let to_pod = routes.lines().any(|line| line.starts_with("10.1.0.5 dev axo") && line.contains("src 192.0.2.1"));
        to_pod && routes.contains("10.2.0.0/24 dev axoneme_vxlan")
    })
    .await;
    ip_command("address add 192.0.2.77/24 dev uplink0");
    eventually("a new address of the host is known", || kind("192.0.2.77") == Some(AddressKind::HOST)).await;
    let metrics = get(9962, "/metrics").await;
    assert!(metrics.contains("cilium_endpoint_state{endpoint_state=\"ready\"} 1"), "{metrics}");
    println!("own memory after the first run: {} KiB", daemon.memory_kib());
}

#[test]
fn a_daemon_joins_attaches_pods_and_lives_on_alone() {
    if !privileged("daemon") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("daemon"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let reachable = network.listen(OPERATOR).await;
            let (pod, another) = (Pod::new(), Pod::new());
            let mut daemon = Daemon::start(folder.clone());
            first_run(&mut daemon, &mut operator, bottle, &pod).await;
            // What was committed reaches the disk within a second or so.
            while !folder.join("state/checkpoint").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }

            // No operator any more, and the daemon dies without a word.
            reachable.abort();
            drop(operator);
            daemon.process.kill().await.unwrap();
            let mut daemon = Daemon::start(folder.clone());
            // Nothing is loaded, and nothing newer than the checkpoint is waited for: this was the newest.
            let again = daemon.ready().await;
            println!("ready again without an operator after {again:?}");
            assert!(again < Duration::from_secs(2), "{again:?}");
            let maps = Pinned::open(&bottle.paths().maps()).unwrap();
            let owner = maps.addresses.get(&AddressKey::from(ip("10.2.0.5"))).unwrap().unwrap();
            assert_eq!((owner.kind, owner.identity), (AddressKind::POD, 200));
            let result = daemon.plugin("ADD", "stranger", &another.path()).await.unwrap();
            assert_eq!(result["ips"][0]["address"], "10.1.0.200/32");
            daemon.plugin("DEL", "pod", &pod.path()).await.unwrap();
            assert!(maps.addresses.get(&AddressKey::from(ip("10.1.0.5"))).unwrap().is_none());

            // An operator is back: it is told what it missed.
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let session = operator.sessions.recv().await.unwrap();
            assert_eq!(session.hello.cursor.as_ref().map(|cursor| cursor.revision), Some(9));
            let mut observed = operator.observed.recv().await.unwrap();
            let (mut detached, mut from_reserve) = (false, false);
            while !(detached && from_reserve) {
                match observed.next().await.event {
                    Some(Event::Detached(gone)) => detached |= gone.pod_uid == "pod",
                    Some(Event::Attached(come)) => from_reserve |= come.from_reserve && come.pod_uid == "stranger",
                    _ => {}
                }
            }
            println!("own memory at the end: {} KiB", daemon.memory_kib());
            let refused = cleanup(&folder);
            assert!(refused.contains("health port 9879: the daemon must have ended"), "{refused}");
            let id = nix::unistd::Pid::from_raw(daemon.process.id().unwrap().cast_signed());
            nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
            assert!(daemon.process.wait().await.unwrap().success());
        });
        assert!(!folder.join("run/admin.sock").exists(), "nobody answers there any more");
        assert!(ip_output("-o link").contains(" axo"), "the kernel stays as it is");
        ip_command("route add 198.51.100.0/24 via 192.0.2.254");
        for time in ["once", "twice"] {
            assert_eq!(cleanup(&folder), "", "{time}");
            assert!(!ip_output("-o link").contains(" axo"), "{time}: {}", ip_output("-o link"));
            for owner in [201, 202] {
                assert_eq!(ip_output(&format!("route show table all proto {owner}")), "", "{time}");
                assert_eq!(ip_output(&format!("-6 route show table all proto {owner}")), "", "{time}");
                assert_eq!(ip_output(&format!("neighbour show proto {owner}")), "", "{time}");
            }
            assert!(!bottle.paths().root().exists(), "{time}");
            for directory in ["state", "run", "conf", "bin"] {
                assert_eq!(fs::read_dir(folder.join(directory)).unwrap().count(), 0, "{time}: {directory}");
            }
        }
        let routes = ip_output("route");
        assert!(routes.contains("198.51.100.0/24") && routes.contains("default"), "others' routes stay: {routes}");
    });
}

/// Runs `axoneme-node cleanup`; returns what it said when it failed.
fn cleanup(folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axoneme-node"));
    let output = command.arg("cleanup").arg("--config").arg(folder.join("node.yaml")).output().unwrap();
    if output.status.success() { String::new() } else { String::from_utf8(output.stderr).unwrap() }
}

/// A daemon hears of a namespace without a policy and of one with, in a checkpoint; then neither it nor its operator is there.
async fn learn_namespaces(network: &Network, behaviour: Behaviour, folder: &Path) {
    let mut operator = network.operator(OPERATOR, behaviour);
    let reachable = network.listen(OPERATOR).await;
    let mut daemon = Daemon::start(folder.to_owned());
    let mut session = operator.sessions.recv().await.unwrap();
    session.welcome(1, false).await;
    let (own, mut all) = (Scope::Node("n1".into()), everything());
    for (name, has_policy, revision) in [("open", false, 10), ("shut", true, 11)] {
        let namespace = tables::Namespace { name: name.into(), has_policy };
        all.upserts.push(row(&own, Table::Namespace, name, revision, &namespace));
    }
    all.to_revision = 11;
    session.delta(all).await;
    while session.ack().await.attempted < 11 {}
    daemon.ready().await;
    while !folder.join("state/checkpoint").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reachable.abort();
    drop((session, operator));
    daemon.process.kill().await.unwrap();
}

/// Gives four pods that have addresses of the reserve their endpoints, of an identity that no policy isolates.
fn adoption<'a>(pods: impl Iterator<Item = (&'a str, IpAddr)>) -> Delta {
    let (own, scope) = (Scope::Node("n1".into()), Scope::Policy(300));
    let policy = tables::Policy { identity: 300, ..Default::default() };
    let mut delta = Delta {
        from_revision: 11,
        to_revision: 16,
        snapshots: vec![scope.to_string()],
        upserts: vec![row(&scope, Table::Policy, "300", 12, &policy)],
        last: true,
        inputs_complete: true,
        ..Delta::default()
    };
    for ((name, address), revision) in pods.zip(13..) {
        let addresses = vec![axoneme_proto::address::to_bytes(address)];
        let endpoint = tables::Endpoint { identity: 300, addresses, ..Default::default() };
        delta.upserts.push(row(&own, Table::Endpoint, name, revision, &endpoint));
    }
    delta
}

#[test]
fn pods_made_without_an_operator_are_adopted_without_losing_a_connection() {
    if !privileged("adoption") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("adoption"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            // What is known of namespaces, and then nobody who could tell more, not even before the daemon's last start.
            let network = Network::default();
            learn_namespaces(&network, Behaviour::good(&authority), &folder).await;
            let mut daemon = Daemon::start(folder.clone());
            daemon.ready().await;

            // Open where there was no policy, closed where there was one or nobody knows.
            let maps = Pinned::open(&bottle.paths().maps()).unwrap();
            let enforced = |address: IpAddr| {
                let found = maps.addresses.get(&AddressKey::from(address)).unwrap().unwrap();
                let endpoint = maps.endpoints.get(&found.ifindex).unwrap().unwrap();
                (endpoint.identity, endpoint.policy)
            };
            let pods = [("open", "client"), ("open", "server"), ("shut", "closed"), ("never-heard-of", "unknown")];
            let pods = pods.map(|(namespace, name)| (namespace, name, Pod::new()));
            let mut addresses = Vec::new();
            for (namespace, name, pod) in &pods {
                let result = daemon.plugin_in(namespace, "ADD", name, &pod.path()).await.unwrap();
                let address = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/32").parse().unwrap();
                let policy = if *namespace == "open" { OPEN_POLICY } else { CLOSED_POLICY };
                assert_eq!(enforced(address), (INIT_IDENTITY, policy), "{name}");
                addresses.push(address);
            }
            let (client, server) = (&pods[0].2, &pods[1].2);
            let target = SocketAddr::new(addresses[1], 80);
            let listener = server.inside(move || TcpListener::bind(target).unwrap());
            let connect = move || TcpStream::connect_timeout(&target, Duration::from_secs(1));
            let mut sender = client.inside(connect).expect("a connection between open pods");
            let mut receiver = listener.accept().unwrap().0;
            let mut passes = move |text: &[u8]| {
                let mut received = vec![0; text.len()];
                receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                sender.write_all(text).and_then(|()| receiver.read_exact(&mut received)).unwrap();
                assert_eq!(received, text);
            };
            passes(b"before");
            assert!(pods[2].2.inside(connect).is_err(), "a closed pod reaches another");

            // An operator comes back, takes the addresses over, and says who these pods are.
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, true).await;
            let mut observed = operator.observed.recv().await.unwrap();
            let mut told = Vec::new();
            while told.len() < pods.len() {
                match observed.next().await.event {
                    Some(Event::Attached(attached)) if attached.from_reserve => told.push(attached.pod_uid),
                    _ => {}
                }
            }
            session.delta(adoption(pods.iter().map(|pod| pod.1).zip(addresses.iter().copied()))).await;
            while session.ack().await.attempted < 16 {
                passes(b"meanwhile");
            }
            let policies: Vec<_> = addresses.iter().map(|address| enforced(*address)).collect();
            assert!(
                policies.iter().all(|(identity, policy)| *identity == 300 && *policy > OPEN_POLICY),
                "{policies:?}"
            );
            passes(b"after");
            pods[2].2.inside(connect).expect("its own policy does not isolate it any more");
        });
    });
}

/// Pods elsewhere that a node of a large cluster knows: those that its own pods' policies name.
const PEERS: u64 = 20_000;

#[test]
fn a_large_snapshot_is_programmed_in_little_time_and_memory() {
    if !privileged("daemon") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("snapshot"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let daemon = Daemon::start(folder);
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, false).await;
            let mut all = everything();
            all.to_revision = 9 + PEERS;
            for peer in 0..PEERS {
                let [.., a, b] = u32::try_from(peer).unwrap().to_be_bytes();
                let message = tables::Peer {
                    identity: 200,
                    addresses: vec![vec![10, 16, a, b]],
                    node: "n2".into(),
                    namespace: "some-namespace".into(),
                    name: format!("some-deployment-59d6b4c75-{peer}"),
                };
                let uid = format!("6c1f6b0e-3f5e-4bb2-9a38-{peer:012}");
                all.upserts.push(row(&Scope::Peers(200), Table::Peer, &uid, 10 + peer, &message));
            }
            let start = Instant::now();
            let rows = std::mem::take(&mut all.upserts);
            for chunk in rows.chunks(2000) {
                session.delta(Delta { upserts: chunk.to_vec(), last: false, ..all.clone() }).await;
                all.snapshots.clear();
            }
            session.delta(all).await;
            while session.ack().await.attempted < 9 + PEERS {}
            println!("{PEERS} peers programmed in {:?}", start.elapsed());
            let path = daemon.folder.join("state/checkpoint");
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let memory = daemon.memory_kib();
            println!("own memory {memory} KiB, checkpoint {} bytes", fs::metadata(path).unwrap().len());
            assert!(memory < 32 << 10, "{memory} KiB");
        });
    });
}
