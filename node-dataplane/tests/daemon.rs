//! The whole daemon, in a network namespace with a BPF file system of its own, against an operator in this process: from the
//! first join to a restart without any operator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use axoneme_bpf::address::{AddressKey, AddressKind};
use axoneme_bpf::service::ServiceKey;
use axoneme_node::maps::Pinned;
use axoneme_node::reconcile::ops::MapOps;
use axoneme_proto::nodesync::Delta;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::{Scope, Table, tables};
use common::{Bottle, Pod, block_on, ip, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network, Operator};
use daemon::{Cgroup, Daemon, OPERATOR, everything, get, ip_command, prepare, row};

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
            let id = nix::unistd::Pid::from_raw(daemon.process.id().unwrap().cast_signed());
            nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
            assert!(daemon.process.wait().await.unwrap().success());
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
