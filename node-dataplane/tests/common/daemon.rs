//! The whole daemon, in a network namespace with a BPF file system of its own, against an operator in this process.

#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../sync/operator.rs"]
pub mod operator;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use axoneme_proto::nodesync::{Delta, Row};
use axoneme_proto::tables::{self, AddressRange, Prefix};
use axoneme_proto::{Scope, Table};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::operator::Authority;
use crate::common::host::Cgroup;
use crate::common::plugin::{self, Call};
use crate::common::{Bottle, ip};

pub const OPERATOR: &str = "127.0.0.1:4246";

pub struct Daemon {
    pub process: tokio::process::Child,
    pub folder: PathBuf,
}

impl Daemon {
    pub fn start(folder: PathBuf) -> Self {
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
    pub async fn ready(&mut self) -> Duration {
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

    /// What its threads have used of the processors, in user and in kernel mode.
    pub fn processor(&self) -> (Duration, Duration) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id().unwrap())).unwrap();
        // The name in parentheses may contain blanks; user and kernel time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let time = |index: usize| Duration::from_millis(10 * fields[index].parse::<u64>().unwrap());
        (time(11), time(12))
    }

    /// Memory of its own, without the binary's pages.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub async fn plugin(&self, command: &str, container: &str, netns: &str) -> Result<Value, Value> {
        self.plugin_in("shop", command, container, netns).await
    }

    /// For a pod of another namespace.
    pub async fn plugin_in(
        &self,
        namespace: &str,
        command: &str,
        container: &str,
        netns: &str,
    ) -> Result<Value, Value> {
        let config = fs::read(self.folder.join("conf/05-axoneme.conflist")).unwrap();
        let list: Value = serde_json::from_slice(&config).unwrap();
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("axoneme");
        let args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={container};K8S_POD_UID={container}");
        plugin::run(&self.folder.join("bin/axoneme-cni"), Call { command, container, netns, arguments: &args }, &config)
            .await
    }
}

pub async fn get(port: u16, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _ = stream.read_to_string(&mut answer).await;
        }
    }
    answer
}

pub fn ip_command(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

pub fn prepare(bottle: &Bottle, cgroup: &Cgroup, authority: &Authority) -> PathBuf {
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

pub fn row(scope: &Scope, table: Table, key: &str, revision: u64, message: &impl Message) -> Row {
    Row { revision, ..Row::new(scope, table, key, message, 0) }
}

pub fn everything() -> Delta {
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
    let endpoint = tables::Endpoint {
        identity: 100,
        addresses: vec![bytes("10.1.0.5")],
        egress_bits_per_second: 80_000_000,
        ..Default::default()
    };
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
        ports: vec![tables::ServicePort { name: String::new(), protocol: 6, port: 80, node_port: 0 }],
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
