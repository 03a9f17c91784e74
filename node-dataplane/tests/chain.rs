//! The CNI project's own command line as the runtime, and its plugins before ours, with the whole daemon and its programs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/go.rs"]
mod go;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_node::link::Links;
use axoneme_node::link::filter::Direction;
use axoneme_node::maps::Pinned;
use axoneme_node::reconcile::ops::MapOps;
use axoneme_proto::{Scope, Table, tables};
use common::host::Cgroup;
use common::{Bottle, Pod, block_on, names, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network};
use daemon::{Daemon, OPERATOR, everything, prepare, row};
use serde_json::{Value, json};

/// A node with a daemon that an operator has told of these pods, who have no addresses of its.
struct Node {
    daemon: Daemon,
    folder: PathBuf,
    conf: PathBuf,
}

fn with_node(test: &'static str, cni: Value, scenario: impl AsyncFnOnce(Node, &Bottle) + Send + 'static) {
    if !privileged(test) {
        return;
    }
    let programs = go::cni_programs();
    on_node(move |bottle| {
        let (cgroup, authority) = (Cgroup::new(test), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        let mut config: Value = serde_json::from_slice(&fs::read(folder.join("node.yaml")).unwrap()).unwrap();
        config["cni"].as_object_mut().unwrap().extend(cni.as_object().unwrap().clone());
        fs::write(folder.join("node.yaml"), config.to_string()).unwrap();
        // Where libcni keeps results; it cannot be told another place.
        fs::create_dir_all("/var/lib/cni").unwrap();
        let none = None::<&str>;
        nix::mount::mount(none, "/var/lib/cni", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
        fs::create_dir_all(folder.join("bin")).unwrap();
        for program in names(programs) {
            fs::copy(programs.join(&program), folder.join("bin").join(&program)).unwrap();
        }
        let conf = bottle.path("net.d");
        fs::create_dir_all(&conf).unwrap();
        block_on(async {
            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let mut daemon = Daemon::start(folder.clone());
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, false).await;
            let mut all = everything();
            let own = Scope::Node("n1".into());
            for (uid, revision) in [("one", 10), ("two", 11)] {
                let endpoint = tables::Endpoint { identity: 100, ..tables::Endpoint::default() };
                all.upserts.push(row(&own, Table::Endpoint, uid, revision, &endpoint));
            }
            all.to_revision = 11;
            session.delta(all).await;
            for uid in ["one", "two", "pod"] {
                session.told(uid, 0).await;
            }
            while session.ack().await.attempted < 11 {}
            daemon.ready().await;
            scenario(Node { daemon, folder, conf }, bottle).await;
        });
    });
}

impl Node {
    fn entry(&self) -> Value {
        json!({
            "type": "axoneme-cni", "socket": self.folder.join("run/cni.sock"),
            "attachments": self.folder.join("state/attachments"), "deferred": self.folder.join("run/deferred"),
        })
    }

    fn write(&self, conflist: &Value) {
        fs::write(self.conf.join("10-test.conflist"), conflist.to_string()).unwrap();
    }

    async fn cnitool(&self, command: &str, network: &str, pod: &Pod, uid: &str) -> Result<Value, String> {
        let output = tokio::process::Command::new(self.folder.join("bin/cnitool"))
            .args([command, network, &pod.path()])
            .env("CNI_PATH", self.folder.join("bin"))
            .env("NETCONFPATH", &self.conf)
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={uid};K8S_POD_UID={uid}"))
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(text);
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn attachments(&self) -> usize {
        names(&self.folder.join("state/attachments")).len()
    }
}

#[test]
fn cnitool_adds_checks_collects_and_deletes() {
    with_node("cnitool", json!({}), async |mut node, _| {
        let written = fs::read(node.folder.join("conf/05-axoneme.conflist")).unwrap();
        let mut conflist: Value = serde_json::from_slice(&written).unwrap();
        // What the daemon writes is of 1.0.0, which has neither STATUS nor GC.
        conflist["cniVersion"] = "1.1.0".into();
        node.write(&conflist);
        let pod = Pod::new();
        node.cnitool("status", "axoneme", &pod, "pod").await.unwrap();
        let added = node.cnitool("add", "axoneme", &pod, "pod").await.unwrap();
        assert_eq!((&added["cniVersion"], &added["ips"][0]["address"]), (&json!("1.1.0"), &json!("10.1.0.5/32")));
        node.cnitool("check", "axoneme", &pod, "pod").await.unwrap();
        // It names nothing that would be valid, and so everything goes.
        node.cnitool("gc", "axoneme", &pod, "pod").await.unwrap();
        assert_eq!(node.attachments(), 0);
        assert!(node.cnitool("check", "axoneme", &pod, "pod").await.is_err());
        node.cnitool("add", "axoneme", &pod, "pod").await.unwrap();
        node.cnitool("del", "axoneme", &pod, "pod").await.unwrap();
        node.cnitool("del", "axoneme", &pod, "pod").await.unwrap();
        assert_eq!(node.attachments(), 0);

        node.daemon.process.kill().await.unwrap();
        let away = node.cnitool("status", "axoneme", &pod, "pod").await.unwrap_err();
        assert!(away.contains("axoneme daemon is not running on this node"), "{away}");
        node.cnitool("del", "axoneme", &pod, "pod").await.unwrap();
    });
}

#[test]
fn pods_of_another_plugin_are_judged_and_stay_its_own() {
    with_node("chained", json!({ "chainingMode": "generic-veth" }), async |node, bottle| {
        assert!(!node.folder.join("conf/05-axoneme.conflist").exists());
        for (number, plugin) in [json!({"type": "ptp"}), json!({"type": "bridge", "bridge": "cni0", "isGateway": true})]
            .into_iter()
            .enumerate()
        {
            chained(&node, bottle, number, plugin).await;
        }
    });
}

async fn chained(node: &Node, bottle: &Bottle, number: usize, mut plugin: Value) {
    let what = plugin["type"].as_str().unwrap().to_owned();
    plugin["ipam"] = json!({
        "type": "host-local", "ranges": [[{"subnet": format!("10.88.{number}.0/24")}]], "routes": [{"dst": "0.0.0.0/0"}],
    });
    node.write(&json!({ "cniVersion": "1.0.0", "name": what, "plugins": [plugin, node.entry()] }));
    let (one, two) = (Pod::new(), Pod::new());
    let added = node.cnitool("add", &what, &one, "one").await.unwrap();
    node.cnitool("add", &what, &two, "two").await.unwrap();

    // What the other plugin said is what the runtime gets: its devices, its address, its gateway.
    let address: IpAddr = added["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
    assert_eq!(added["ips"][0]["gateway"], format!("10.88.{number}.1"), "{what}");
    let interfaces = added["interfaces"].as_array().unwrap();
    let host = interfaces.iter().rfind(|interface| interface.get("sandbox").is_none()).unwrap();
    let links = Links::connect().unwrap();
    let device = links.device(host["name"].as_str().unwrap()).await.unwrap().expect("the host's end");
    let maps = Pinned::open(&bottle.paths().maps()).unwrap();
    let endpoint: Endpoint = maps.endpoints.get(&device.index).unwrap().expect("an entry");
    assert_eq!((endpoint.identity, endpoint.flags), (100, EndpointFlags::CHAINED), "{what}");
    assert_eq!(endpoint.ipv4.to_ip(axoneme_bpf::inet::Family::IPV4), Some(address));
    for direction in [Direction::Ingress, Direction::Egress] {
        assert!(links.filter(device.index, direction).await.unwrap().is_some(), "{what} {direction:?}");
    }
    node.cnitool("check", &what, &one, "one").await.unwrap();

    // Its policy lets nobody but the host in.
    let target = SocketAddr::new(address, 80);
    let _listener = one.inside(move || TcpListener::bind(target).unwrap());
    let reached = move || TcpStream::connect_timeout(&target, Duration::from_millis(500)).is_ok();
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: the host does not reach its pod");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!two.inside(reached), "{what}: a pod reaches another although a policy isolates that");

    // Our part alone: the device goes on to be the other plugin's, and judges nobody.
    let whole = fs::read(node.conf.join("10-test.conflist")).unwrap();
    node.write(&json!({ "cniVersion": "1.0.0", "name": what, "plugins": [node.entry()] }));
    for (pod, uid) in [(&one, "one"), (&two, "two")] {
        node.cnitool("del", &what, pod, uid).await.unwrap();
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        assert_eq!(links.filter(device.index, direction).await.unwrap(), None, "{what} {direction:?}");
    }
    assert_eq!(maps.endpoints.get(&device.index).unwrap(), None, "{what}");
    assert!(two.inside(reached), "{what}: as if there had never been a policy");

    fs::write(node.conf.join("10-test.conflist"), whole).unwrap();
    for (pod, uid) in [(&one, "one"), (&two, "two")] {
        node.cnitool("del", &what, pod, uid).await.unwrap();
    }
    assert_eq!(maps.endpoints.get(&device.index).unwrap(), None);
    assert_eq!(links.device(&device.name).await.unwrap(), None, "{what}");
    assert_eq!(node.attachments(), 0);
}
