//! The whole daemon, in a network namespace with a BPF file system of its own, against an operator in this process: from the
//! first join to a restart without any operator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "sync/operator.rs"]
mod operator;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axoneme_bpf::address::{AddressKey, AddressKind};
use axoneme_bpf::service::ServiceKey;
use axoneme_node::maps::Pinned;
use axoneme_node::reconcile::ops::MapOps;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::{Delta, Row};
use axoneme_proto::tables::{self, AddressRange, Prefix};
use axoneme_proto::{Scope, Table};
use common::{Bottle, Pod, block_on, ip, on_node, privileged};
use operator::{Authority, Behaviour, Network, Operator};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OPERATOR: &str = "127.0.0.1:4246";

struct Daemon {
    process: tokio::process::Child,
    folder: PathBuf,
}

impl Daemon {
    fn start(folder: PathBuf) -> Self {
        let process = tokio::process::Command::new(env!("CARGO_BIN_EXE_axoneme-node"))
            .arg("--config")
            .arg(folder.join("node.yaml"))
            .args(["--node-name", "n1", "--log", "info,axoneme_node=debug"])
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Waits until the daemon says that it is ready; returns how long that took.
    async fn ready(&mut self) -> Duration {
        let start = Instant::now();
        loop {
            assert!(self.process.try_wait().unwrap().is_none(), "the daemon ended");
            if get(9879, "/readyz").await.starts_with("HTTP/1.1 200") {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{}", get(9879, "/healthz").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Memory of its own, without the binary's pages.
    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn plugin(&self, command: &str, container: &str, netns: &str) -> Result<Value, Value> {
        let config = fs::read(self.folder.join("conf/05-axoneme.conflist")).unwrap();
        let list: Value = serde_json::from_slice(&config).unwrap();
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("axoneme");
        let args = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={container};K8S_POD_UID={container}");
        let environment: HashMap<&str, &str> = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &args),
            ("CNI_PATH", "/opt/cni/bin"),
        ]
        .into();
        let mut child = tokio::process::Command::new(self.folder.join("bin/axoneme-cni"))
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let value =
            if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() };
        if output.status.success() { Ok(value) } else { Err(value) }
    }
}

async fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _ = stream.read_to_string(&mut answer).await;
        }
    }
    answer
}

/// A cgroup that goes with the test.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(test: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup v2");
        let path = PathBuf::from(cgroup2.split(' ').nth(1).unwrap());
        let path = path.join(format!("axoneme-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn ip_command(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn prepare(bottle: &Bottle, cgroup: &Cgroup, authority: &Authority) -> PathBuf {
    ip_command("link set lo up");
    ip_command("link add uplink0 type veth peer name peer0");
    ip_command("link set uplink0 up");
    ip_command("link set peer0 up");
    ip_command("address add 192.0.2.1/24 dev uplink0");
    ip_command("route add default via 192.0.2.254");
    let folder = bottle.path("daemon");
    for part in ["operators", "state"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("operators/ca.crt"), &authority.pem).unwrap();
    fs::write(folder.join("operators/operators"), OPERATOR).unwrap();
    fs::write(folder.join("token"), "secret").unwrap();
    let path = |name: &str| folder.join(name);
    let config = json!({
        "cgroupRoot": cgroup.0, "bpfRoot": bottle.paths().root(), "stateDirectory": path("state"),
        "runDirectory": path("run"), "operatorsDirectory": path("operators"), "tokenFile": path("token"),
        "cni": {"binDirectory": path("bin"), "confDirectory": path("conf"), "waitSeconds": 5},
    });
    fs::write(path("node.yaml"), config.to_string()).unwrap();
    folder
}

fn row(scope: &Scope, table: Table, key: &str, revision: u64, message: &impl Message) -> Row {
    Row { revision, ..Row::new(scope, table, key, message, 0) }
}

fn everything() -> Delta {
    let (cluster, own) = (Scope::Cluster, Scope::Node("n1".into()));
    let net = |address: &str, length| Prefix::new(ip(address), length);
    let bytes = |address: &str| axoneme_proto::address::to_bytes(ip(address));
    let settings = tables::Settings {
        routing_mode: tables::RoutingMode::Vxlan.into(),
        tunnel_port: 8472,
        pod_cidrs: vec![net("10.0.0.0", 8)],
        ipv4: true,
        ..Default::default()
    };
    let node = |number: u8| tables::Node {
        name: format!("n{number}"),
        addresses: vec![bytes(&format!("192.0.2.{number}"))],
        overlay_addresses: vec![bytes(&format!("10.{number}.0.1"))],
        pod_cidrs: vec![net(&format!("10.{number}.0.0"), 24)],
        ..Default::default()
    };
    let endpoint = tables::Endpoint { identity: 100, addresses: vec![bytes("10.1.0.5")], ..Default::default() };
    let policy = tables::Policy {
        identity: 100,
        ingress: Some(tables::PolicyDirection { enforced: true, isolated_by: 1, ..Default::default() }),
        policies: vec!["networkpolicy:shop/deny".into()],
        ..Default::default()
    };
    let peer =
        tables::Peer { identity: 200, addresses: vec![bytes("10.2.0.5")], node: "n2".into(), ..Default::default() };
    let reserve = vec![AddressRange::new(ip("10.1.0.200"), ip("10.1.0.210"))];
    let pool = tables::Pool { name: "default".into(), reserve, ..Default::default() };
    let service = tables::Service {
        namespace: "shop".into(),
        name: "web".into(),
        cluster_ips: vec![bytes("10.96.0.10")],
        ports: vec![tables::ServicePort { name: String::new(), protocol: 6, port: 80 }],
        ..Default::default()
    };
    let scopes = [&cluster, &Scope::Services, &Scope::Policy(100), &Scope::Peers(200), &own];
    Delta {
        to_revision: 9,
        snapshots: scopes.map(ToString::to_string).into(),
        upserts: vec![
            row(&cluster, Table::Settings, "", 1, &settings),
            row(&cluster, Table::Node, "n1", 2, &node(1)),
            row(&cluster, Table::Node, "n2", 3, &node(2)),
            row(&Scope::Services, Table::Service, "shop/web", 4, &service),
            row(&Scope::Policy(100), Table::Policy, "100", 5, &policy),
            row(&Scope::Peers(200), Table::Peer, "other", 6, &peer),
            row(&own, Table::Endpoint, "pod", 7, &endpoint),
            row(&own, Table::Pool, "default", 8, &pool),
        ],
        last: true,
        inputs_complete: true,
        ..Delta::default()
    }
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
            println!("ready again without an operator after {:?}", daemon.ready().await);
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
