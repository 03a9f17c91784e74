//! The CNI server, asked by the plugin's binary, with a desired state that the tests set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axoneme_bpf::address::{Address, AddressKey};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::inet::Direction;
use axoneme_bpf::maps;
use axoneme_node::desired::pods::{Limits, PodError};
use axoneme_node::endpoint::attachment::{AttachmentKey, PodSandbox};
use axoneme_node::endpoint::metrics::Metrics;
use axoneme_node::endpoint::store::Store;
use axoneme_node::endpoint::{AddRequest, EndpointMaps, Endpoints, Parts, Phase, server};
use axoneme_node::link::Links;
use axoneme_node::maps::{Faulty, MemoryMap};
use axoneme_node::reconcile::ops::{EndpointOps, Enforcement, MapOps};
use axoneme_proto::nodesync::FailureCode;
use common::{
    Bottle, FakePods, FakeReports, Pod, SharedPods, block_on, ip, names, on_node, pin_trivial_programs, privileged,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A daemon's CNI half, and all that outlives it.
struct Node {
    socket: PathBuf,
    attachments: PathBuf,
    deferred: PathBuf,
    paths: axoneme_node::programs::Paths,
    endpoint_map: MemoryMap<u32, Endpoint>,
    address_map: MemoryMap<AddressKey, Address>,
    bandwidth_map: MemoryMap<BandwidthKey, Bandwidth>,
    metrics: Metrics,
    /// Of a hundred operations on maps, how many fail.
    faults: u64,
    links: Links,
    pods: Arc<FakePods>,
    reports: FakeReports,
    daemon: Option<(Endpoints, JoinHandle<()>)>,
}

impl Node {
    async fn start(bottle: &Bottle, pods: Arc<FakePods>) -> Self {
        let mut node = Self {
            socket: bottle.path("cni.sock"),
            attachments: bottle.path("attachments"),
            deferred: bottle.path("deferred"),
            paths: bottle.paths(),
            endpoint_map: MemoryMap::hash(maps::ENDPOINTS, 16),
            address_map: MemoryMap::hash(maps::ADDRESSES, 16),
            bandwidth_map: MemoryMap::hash(maps::BANDWIDTH, 16),
            metrics: Metrics::default(),
            faults: 0,
            links: Links::connect().unwrap(),
            pods,
            reports: FakeReports::default(),
            daemon: None,
        };
        node.restart().await;
        node
    }

    /// As if the daemon had been killed and had come back.
    async fn restart(&mut self) -> axoneme_node::endpoint::Restored {
        if let Some((endpoints, _)) = &self.daemon {
            endpoints.finish().await;
        }
        self.stop();
        let endpoints = Endpoints::new(Parts {
            links: self.links.clone(),
            paths: self.paths.clone(),
            store: Store::open(&self.attachments).unwrap(),
            maps: EndpointMaps {
                endpoints: Box::new(Faulty::with_rate(self.endpoint_map.clone(), 7, self.faults)),
                addresses: Box::new(Faulty::with_rate(self.address_map.clone(), 8, self.faults)),
                bandwidth: Box::new(Faulty::with_rate(self.bandwidth_map.clone(), 9, self.faults)),
            },
            pods: Arc::new(SharedPods(self.pods.clone())),
            reports: Arc::new(self.reports.clone()),
            deferred: self.deferred.clone(),
            metrics: self.metrics.clone(),
            wait: Duration::from_secs(2),
        });
        let restored = endpoints.restore().await;
        let listener = server::listen(&self.socket).unwrap();
        endpoints.detach_deferred().await.unwrap();
        self.daemon = Some((endpoints.clone(), tokio::spawn(server::serve(listener, endpoints))));
        restored
    }

    fn stop(&mut self) {
        if let Some((_, server)) = self.daemon.take() {
            server.abort();
        }
    }

    fn endpoints(&self) -> &Endpoints {
        &self.daemon.as_ref().unwrap().0
    }

    async fn plugin(&self, command: &str, container: &str, netns: &str, uid: &str) -> Result<Value, Value> {
        self.plugin_with(command, container, netns, uid, "1.0.0").await
    }

    /// Runs the plugin as a runtime does.
    async fn plugin_with(
        &self,
        command: &str,
        container: &str,
        netns: &str,
        uid: &str,
        version: &str,
    ) -> Result<Value, Value> {
        self.plugin_given(command, container, netns, uid, json!({ "cniVersion": version })).await
    }

    /// Runs the plugin with more in its configuration.
    async fn plugin_given(
        &self,
        command: &str,
        container: &str,
        netns: &str,
        uid: &str,
        more: Value,
    ) -> Result<Value, Value> {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "axoneme", "type": "axoneme-cni", "socket": self.socket,
            "attachments": self.attachments, "deferred": self.deferred,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={uid};K8S_POD_UID={uid}");
        let environment: HashMap<&str, &str> = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &args),
            ("CNI_PATH", "/opt/cni/bin"),
        ]
        .into();
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_axoneme-cni"))
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

    async fn add(&self, container: &str, pod: &Pod, uid: &str) -> Result<Value, Value> {
        self.plugin("ADD", container, &pod.path(), uid).await
    }

    async fn del(&self, container: &str, uid: &str) -> Result<Value, Value> {
        self.plugin("DEL", container, "", uid).await
    }

    /// The pod devices that exist.
    async fn devices(&self) -> Vec<String> {
        let devices = self.links.devices().await.unwrap();
        let mut names: Vec<_> = devices.into_iter().map(|d| d.name).filter(|name| name.starts_with("axo")).collect();
        names.sort();
        names
    }

    /// Entries as text: `identity/policy@address` by device, and where addresses lead.
    async fn entries(&self) -> Vec<String> {
        let devices = self.links.devices().await.unwrap();
        let name = |index: u32| devices.iter().find(|d| d.index == index).map_or("gone", |d| d.name.as_str());
        let mut lines: Vec<String> = Vec::new();
        for (index, endpoint) in self.endpoint_map.entries() {
            let address = endpoint.ipv4.to_ip(axoneme_bpf::inet::Family::IPV4).unwrap();
            lines.push(format!("{}: identity {} policy {} {address}", name(index), endpoint.identity, endpoint.policy));
        }
        for (key, address) in self.address_map.entries() {
            lines.push(format!("{} -> {}", key.address.to_ip(key.family).unwrap(), name(address.ifindex)));
        }
        lines.sort();
        lines
    }

    /// The only endpoint's flags, and its limits as text.
    fn limits(&self) -> (EndpointFlags, String) {
        let endpoint = *self.endpoint_map.entries().values().next().unwrap();
        let mut limits: Vec<String> = Vec::new();
        for (key, limit) in self.bandwidth_map.entries() {
            let direction = if key.direction == Direction::EGRESS { "egress" } else { "ingress" };
            limits.push(format!("{direction} {} free at {}", limit.bytes_per_second, limit.free_at));
        }
        limits.sort();
        (endpoint.flags, limits.join(", "))
    }

    fn metrics_text(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.metrics.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    async fn nothing_is_left(&self) {
        assert_eq!(self.devices().await, Vec::<String>::new());
        assert_eq!(self.entries().await, Vec::<String>::new());
        assert!(self.bandwidth_map.entries().is_empty());
        assert_eq!(names(&self.attachments), Vec::<String>::new());
    }
}

fn with_node<F>(test: &str, pods: fn() -> Arc<FakePods>, scenario: F)
where
    F: AsyncFnOnce(Node) + Send + 'static,
{
    if !privileged(test) {
        return;
    }
    on_node(move |bottle| {
        pin_trivial_programs(&bottle.paths());
        block_on(async { scenario(Node::start(bottle, pods()).await).await });
    });
}

fn message(answer: &Result<Value, Value>) -> (u64, &str) {
    let error = answer.as_ref().unwrap_err();
    (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap())
}

fn reserve() -> Arc<FakePods> {
    FakePods::alone_with_reserve("10.0.0.224", "10.0.0.225")
}

#[test]
fn a_pod_is_attached_checked_and_detached() {
    with_node("a_pod_is_attached_checked_and_detached", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5", "fd00::5"]);
        let added = node.add("c1", &pod, "u1").await.unwrap();
        let device = added["interfaces"][0]["name"].as_str().unwrap().to_owned();
        assert_eq!(added["cniVersion"], "1.0.0");
        assert_eq!(added["interfaces"][1]["name"], "eth0");
        assert_eq!(added["interfaces"][1]["sandbox"], pod.path());
        assert_eq!(added["ips"][0], json!({"interface": 1, "address": "10.0.0.5/32", "gateway": "169.254.1.1"}));
        assert_eq!(added["ips"][1], json!({"interface": 1, "address": "fd00::5/128", "gateway": "fe80::1"}));
        assert_eq!(added["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}));
        assert_eq!(
            node.entries().await,
            [
                format!("10.0.0.5 -> {device}"),
                format!("{device}: identity 1234 policy 3 10.0.0.5"),
                format!("fd00::5 -> {device}")
            ]
        );
        assert_eq!(node.reports.take(), ["attached u1 in c1: 10.0.0.5,fd00::5 id 1 identity 1234"]);

        // The same again is answered the same, and tells nobody.
        assert_eq!(node.add("c1", &pod, "u1").await.unwrap(), added);
        assert_eq!(node.reports.take(), Vec::<String>::new());
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();

        node.address_map.delete_all();
        let broken = node.plugin("CHECK", "c1", &pod.path(), "u1").await;
        let (code, text) = message(&broken);
        assert_eq!(code, 101);
        assert!(text.contains(&format!("map ax_addresses does not lead 10.0.0.5 to {device}")), "{text}");

        node.del("c1", "u1").await.unwrap();
        node.nothing_is_left().await;
        assert_eq!(node.reports.take(), ["detached u1 in c1: 10.0.0.5,fd00::5"]);
        node.del("c1", "u1").await.unwrap();
        assert_eq!(node.reports.take(), Vec::<String>::new());
        let check = node.plugin("CHECK", "c1", &pod.path(), "u1").await;
        assert_eq!(message(&check).0, 101);
    });
}

#[test]
fn every_version_of_the_specification_gets_its_own_result() {
    with_node("every_version_of_the_specification_gets_its_own_result", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let add = async |version: &'static str| node.plugin_with("ADD", "c1", &pod.path(), "u1", version).await;
        for old in ["0.3.1", "0.4.0"] {
            assert_eq!(add(old).await.unwrap()["ips"][0]["version"], "4");
        }
        assert_eq!(add("1.0.0").await.unwrap()["ips"][0].get("version"), None);
        let newest = add("1.1.0").await.unwrap();
        assert_eq!((&newest["interfaces"][1]["mtu"], &newest["routes"][0]["mtu"]), (&json!(1450), &json!(1450)));
        let unknown = add("0.1.0").await;
        assert_eq!(message(&unknown), (1, "cniVersion 0.1.0 is not supported; 0.3.1, 0.4.0, 1.0.0, 1.1.0 are"));
        for (command, version, text) in [
            ("CHECK", "0.3.1", "cniVersion 0.3.1 has no CHECK; 0.4.0 has"),
            ("STATUS", "1.0.0", "cniVersion 1.0.0 has no STATUS; 1.1.0 has"),
            ("GC", "0.4.0", "cniVersion 0.4.0 has no GC; 1.1.0 has"),
        ] {
            let answer = node.plugin_with(command, "c1", &pod.path(), "u1", version).await;
            assert_eq!(message(&answer), (1, text));
        }
        let version = node.plugin_with("VERSION", "", "", "", "1.1.0").await.unwrap();
        assert_eq!(version, json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}));
        assert_eq!(node.plugin_with("STATUS", "", "", "", "1.1.0").await, Ok(Value::Null));
    });
}

#[test]
fn add_waits_for_the_pods_row_and_says_what_it_waits_for() {
    with_node("add_waits_for_the_pods_row_and_says_what_it_waits_for", FakePods::connected, async |node| {
        let pod = Pod::new();
        let late = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        };
        let path = pod.path();
        let (added, ()) = tokio::join!(node.plugin("ADD", "c1", &path, "u1"), late);
        added.unwrap();

        let never = node.add("c2", &Pod::new(), "u2").await;
        assert_eq!(message(&never), (11, "the operator has not told of pod shop/u2 yet (it is connected)"));
        let refused = PodError::Policy {
            namespace: "shop".into(),
            name: "u3".into(),
            identity: 77,
            code: FailureCode::Capacity,
            message: "map ax_policy_rules is full".into(),
        };
        node.pods.fail("u3", refused);
        let policy = node.add("c3", &Pod::new(), "u3").await;
        let (code, text) = message(&policy);
        assert_eq!(code, 11);
        assert!(text.contains("ax_policy_rules is full"), "{text}");
        assert_eq!(names(&node.attachments), ["c1-eth0.json"]);
    });
}

#[test]
fn without_an_operator_addresses_come_from_the_reserve() {
    with_node("without_an_operator_addresses_come_from_the_reserve", reserve, async |mut node| {
        let (one, two, three) = (Pod::new(), Pod::new(), Pod::new());
        let address = |added: Result<Value, Value>| added.unwrap()["ips"][0]["address"].as_str().unwrap().to_owned();
        assert_eq!(address(node.add("c1", &one, "u1").await), "10.0.0.224/32");
        assert_eq!(address(node.add("c2", &two, "u2").await), "10.0.0.225/32");
        assert_eq!(
            node.reports.take(),
            [
                "attached u1 in c1: 10.0.0.224 id 1 identity 5 from reserve",
                "attached u2 in c2: 10.0.0.225 id 2 identity 5 from reserve"
            ]
        );
        let none = node.add("c3", &three, "u3").await;
        let (code, text) = message(&none);
        assert_eq!(code, 11);
        assert!(text.starts_with("this node's reserve of addresses is used up"), "{text}");

        node.restart().await;
        assert_eq!(message(&node.add("c3", &three, "u3").await).0, 11);
        node.del("c1", "u1").await.unwrap();
        assert_eq!(address(node.add("c3", &three, "u3").await), "10.0.0.224/32");
    });
}

#[test]
fn a_sandbox_made_anew_takes_the_address_and_the_old_ones_del_leaves_it() {
    with_node("a_sandbox_made_anew", FakePods::connected, async |node| {
        let (old, new) = (Pod::new(), Pod::new());
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c-old", &old, "u1").await.unwrap();
        let added = node.add("c-new", &new, "u1").await.unwrap();
        let device = added["interfaces"][0]["name"].as_str().unwrap();
        assert!(node.entries().await.contains(&format!("10.0.0.5 -> {device}")));
        node.reports.take();

        node.del("c-old", "u1").await.unwrap();
        assert_eq!(node.reports.take(), Vec::<String>::new());
        assert_eq!(
            node.entries().await,
            [format!("10.0.0.5 -> {device}"), format!("{device}: identity 1234 policy 3 10.0.0.5")]
        );
        node.plugin("CHECK", "c-new", &new.path(), "u1").await.unwrap();
        node.del("c-new", "u1").await.unwrap();
        assert_eq!(node.reports.take(), ["detached u1 in c-new: 10.0.0.5"]);
        node.nothing_is_left().await;
    });
}

#[test]
fn without_a_daemon_add_says_so_and_del_is_done_later() {
    with_node("without_a_daemon", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c1", &pod, "u1").await.unwrap();
        node.stop();
        tokio::task::yield_now().await;
        let add = node.add("c2", &Pod::new(), "u2").await;
        let (code, text) = message(&add);
        assert_eq!(code, 11);
        assert!(text.starts_with("axoneme daemon is not running on this node (no answer at "), "{text}");
        assert_eq!(message(&node.plugin_with("STATUS", "", "", "", "1.1.0").await).0, 50);

        // What is attached is detached by the next daemon, before it serves anybody; what is not, already is.
        node.del("c1", "u1").await.unwrap();
        node.del("c1", "u1").await.unwrap();
        node.plugin("DEL", "c9", &pod.path(), "u9").await.unwrap();
        assert_eq!(names(&node.deferred), ["c1-eth0.json"]);
        assert_eq!(node.devices().await.len(), 1);
        node.reports.take();
        node.restart().await;
        assert_eq!(
            node.reports.take(),
            ["attached u1 in c1: 10.0.0.5 id 1 identity 1234", "detached u1 in c1: 10.0.0.5"]
        );
        assert_eq!(names(&node.deferred), Vec::<String>::new());
        node.nothing_is_left().await;

        // Where it cannot be deferred, the runtime has to ask again.
        node.add("c1", &pod, "u1").await.unwrap();
        node.stop();
        tokio::task::yield_now().await;
        std::fs::remove_dir(&node.deferred).unwrap();
        std::fs::write(&node.deferred, "in the way").unwrap();
        assert_eq!(message(&node.del("c1", "u1").await).0, 11);
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    with_node("what_makes_no_sense_is_refused_with_a_reason", FakePods::connected, async |node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.set("u2", 1234, 3, &["10.0.0.6", "10.0.0.7"]);
        node.pods.set("u3", 1234, 3, &[]);
        let pod = Pod::new();
        let cases = [
            (node.plugin("ADD", "../evil", &pod.path(), "u1").await, 4, "CNI_CONTAINERID \"../evil\""),
            (node.plugin("ADD", "c1", "/does/not/exist", "u1").await, 4, "cannot open CNI_NETNS /does/not/exist"),
            (node.plugin("ADD", "c1", "/etc/hostname", "u1").await, 4, "the given file is no network namespace"),
            (node.plugin("ADD", "c1", &Pod::here(), "u1").await, 4, "the given namespace is the host's"),
            (node.plugin("ADD", "c1", &pod.path(), "").await, 4, "CNI_ARGS lacks K8S_POD_UID"),
            (node.plugin("ADD", "c1", &pod.path(), "u2").await, 100, "a pod has at most one address a family"),
            (node.plugin("ADD", "c1", &pod.path(), "u3").await, 11, "pod shop/u3 was given no address"),
            (node.plugin("WHAT", "c1", &pod.path(), "u1").await, 4, "CNI_COMMAND \"WHAT\" is none of"),
        ];
        for (answer, code, text) in cases {
            let (found, message) = message(&answer);
            assert!(found == code && message.contains(text), "{found} {message}, not {code} {text}");
        }
        node.nothing_is_left().await;
    });
}

#[test]
fn a_full_map_undoes_the_add_and_is_worth_a_retry() {
    with_node("a_full_map_undoes_the_add_and_is_worth_a_retry", FakePods::connected, async |node| {
        for i in 0..17_u8 {
            let (uid, address) = (format!("u{i}"), format!("10.0.0.{}", 10 + i));
            node.pods.set(&uid, 1, 1, &[address.as_str()]);
        }
        let pods: Vec<Pod> = (0..17).map(|_| Pod::new()).collect();
        for (i, pod) in pods.iter().enumerate().take(16) {
            node.add(&format!("c{i}"), pod, &format!("u{i}")).await.unwrap();
        }
        let full = node.add("c16", &pods[16], "u16").await;
        assert_eq!(message(&full), (11, "map ax_endpoints is full at 16 entries"));
        assert_eq!((node.devices().await.len(), names(&node.attachments).len()), (16, 16));
        node.del("c3", "u3").await.unwrap();
        node.add("c16", &pods[16], "u16").await.unwrap();
    });
}

#[test]
fn with_faulty_maps_retries_end_where_they_would_without() {
    with_node("with_faulty_maps_retries_end_where_they_would_without", FakePods::connected, async |mut node| {
        node.faults = 30;
        node.restart().await;
        let retry = async |command: &str, container: &str, netns: &str, uid: &str| {
            for _ in 0..50 {
                if node.plugin(command, container, netns, uid).await.is_ok() {
                    return;
                }
            }
            panic!("{command} of {container} never succeeded");
        };
        let pods: Vec<Pod> = (0..5).map(|_| Pod::new()).collect();
        for (i, pod) in pods.iter().enumerate() {
            let (uid, address) = (format!("u{i}"), format!("10.0.0.{}", 10 + i));
            node.pods.set(&uid, 1, 1, &[address.as_str()]);
            retry("ADD", &format!("c{i}"), &pod.path(), &uid).await;
        }
        assert_eq!((node.devices().await.len(), node.entries().await.len()), (5, 10));
        for i in 0..5 {
            retry("DEL", &format!("c{i}"), "", &format!("u{i}")).await;
        }
        node.nothing_is_left().await;
    });
}

#[test]
fn a_daemon_that_comes_back_finishes_what_it_was_at() {
    with_node("a_daemon_that_comes_back_finishes_what_it_was_at", FakePods::connected, async |mut node| {
        let pods: Vec<Pod> = (0..4).map(|_| Pod::new()).collect();
        for (i, pod) in pods.iter().enumerate() {
            let (uid, address) = (format!("u{i}"), format!("10.0.0.{}", 10 + i));
            node.pods.set(&uid, 1, 1, &[address.as_str()]);
            node.add(&format!("c{i}"), pod, &uid).await.unwrap();
        }
        let entries = node.entries().await;
        node.reports.take();
        node.stop();
        // c1 was in the middle of ADD, c2 in the middle of DEL; of c3's file only half was written.
        rewrite(&node.attachments, "c1", Phase::Attaching);
        rewrite(&node.attachments, "c2", Phase::Detaching);
        std::fs::write(node.attachments.join("c3-eth0.json"), "{\"containerId\":").unwrap();
        std::fs::write(node.attachments.join("c4-eth0.new"), "{").unwrap();
        // Somebody also emptied a map.
        node.address_map.delete_all();

        let restored = node.restart().await;
        assert_eq!((restored.adopted, restored.removed, restored.failed, restored.dead), (1, 2, 0, 0));
        assert_eq!(
            node.reports.take(),
            ["attached u0 in c0: 10.0.0.10 id 1 identity 1", "detached u2 in c2: 10.0.0.12"]
        );
        // What has no attachment stays until the desired state is complete.
        assert_eq!(node.devices().await.len(), 2);
        assert_eq!(node.endpoints().prune().await.unwrap(), 2);
        let kept: Vec<_> = entries.iter().filter(|line| line.contains("10.0.0.10")).cloned().collect();
        assert_eq!(node.entries().await, kept);
        assert_eq!(names(&node.attachments), ["c0-eth0.json", "c3-eth0.broken"]);

        // The runtime tries again.
        node.add("c1", &pods[1], "u1").await.unwrap();
        node.plugin("CHECK", "c0", &pods[0].path(), "u0").await.unwrap();
        node.plugin("CHECK", "c1", &pods[1].path(), "u1").await.unwrap();
    });
}

/// ADD and DEL are dropped after ever longer times, wherever they are by then, and the daemon starts anew.
#[test]
fn killed_at_any_moment_the_next_start_finds_what_was_begun() {
    with_node("killed_at_any_moment_the_next_start_finds_what_was_begun", FakePods::connected, async |mut node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let key = AttachmentKey { container_id: "c1".into(), interface: "eth0".into() };
        let add = AddRequest {
            key: key.clone(),
            pod: PodSandbox { uid: "u1".into(), namespace: "shop".into(), name: "web".into() },
            netns: "test".into(),
            network: "axoneme".into(),
            chained: None,
        };
        let (mut adds, mut dels) = (0, 0);
        for step in 0..40_u64 {
            let (pod, moment) = (Pod::new(), Duration::from_micros(step * step * 10));
            let namespace = pod.namespace();
            let endpoints = node.endpoints().clone();
            adds += u64::from(timeout(moment, endpoints.add(&add, &namespace)).await.is_err());
            node.restart().await;
            if node.endpoints().attachments().is_empty() {
                // A device whose making was under way comes without an intent only if the kernel was quicker than the start.
                node.endpoints().prune().await.unwrap();
                node.nothing_is_left().await;
            }
            let endpoints = node.endpoints().clone();
            endpoints.add(&add, &namespace).await.unwrap();
            endpoints.check(&key, &[], &namespace).await.unwrap();

            dels += u64::from(timeout(moment, endpoints.del(&key)).await.is_err());
            node.restart().await;
            node.endpoints().del(&key).await.unwrap();
            node.nothing_is_left().await;
        }
        assert!(adds > 5 && dels > 5, "only {adds} ADDs and {dels} DELs were interrupted");
    });
}

#[test]
fn an_interrupted_add_is_cleaned_up_by_the_next_one() {
    with_node("an_interrupted_add_is_cleaned_up_by_the_next_one", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let first = node.add("c1", &pod, "u1").await.unwrap();
        // Everything is there but the last word on disk; this daemon has not looked at its disk since.
        node.stop();
        std::fs::remove_file(node.attachments.join("c1-eth0.json")).unwrap();
        node.restart().await;
        assert_eq!(node.add("c1", &pod, "u1").await.unwrap(), first);
        assert_eq!(node.devices().await.len(), 1);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
    });
}

#[test]
fn a_relabelled_pod_is_enforced_anew_also_after_a_restart() {
    with_node("a_relabelled_pod_is_enforced_anew_also_after_a_restart", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c1", &pod, "u1").await.unwrap();
        node.endpoints().enforce("u1", &enforcement(4321, 9)).unwrap();
        node.endpoints().enforce("unknown", &enforcement(1, 1)).unwrap();
        assert_eq!(
            node.reports.take(),
            ["attached u1 in c1: 10.0.0.5 id 1 identity 1234", "attached u1 in c1: 10.0.0.5 id 1 identity 4321"]
        );
        assert!(node.entries().await.iter().any(|line| line.ends_with("identity 4321 policy 9 10.0.0.5")));
        node.restart().await;
        let attached = node.endpoints().attached();
        assert_eq!(attached.len(), 1);
        assert_eq!(attached[0].enforcement, enforcement(4321, 9));
        assert_eq!(attached[0].addresses, [ip("10.0.0.5") as IpAddr]);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
    });
}

#[test]
fn status_says_whether_pods_can_be_attached() {
    with_node("status_says_whether_pods_can_be_attached", FakePods::connected, async |node| {
        let status = async || node.plugin_with("STATUS", "", "", "", "1.1.0").await;
        assert_eq!(status().await, Ok(Value::Null));
        node.pods.unready(PodError::Network("no operator was reached yet".into()));
        assert_eq!(message(&status().await), (50, "the node's network is not ready: no operator was reached yet"));
        std::fs::remove_file(node.paths.programs().join("to_pod")).unwrap();
        let (code, text) = message(&status().await).to_owned_pair();
        assert_eq!(code, 51);
        assert!(text.starts_with("the programs of pods are not loaded"), "{text}");
    });
}

#[test]
fn gc_removes_what_the_runtime_does_not_name_and_nothing_else() {
    with_node("gc_removes_what_the_runtime_does_not_name", FakePods::connected, async |node| {
        let pods: Vec<Pod> = (0..4).map(|_| Pod::new()).collect();
        for (i, pod) in pods.iter().enumerate() {
            let (uid, address) = (format!("u{i}"), format!("10.0.0.{}", 10 + i));
            node.pods.set(&uid, 1, 1, &[address.as_str()]);
            // The last one is another network's.
            let network = json!({ "name": if i == 3 { "other" } else { "axoneme" } });
            node.plugin_given("ADD", &format!("c{i}"), &pod.path(), &uid, network).await.unwrap();
        }
        node.reports.take();
        let gc = async |more: Value| node.plugin_given("GC", "", "", "", more).await;
        // A list that is not there names nothing, and so nothing is removed.
        gc(json!({})).await.unwrap();
        assert_eq!(names(&node.attachments).len(), 4);
        let valid = json!([{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c1", "ifname": "eth7"}]);
        gc(json!({ "cni.dev/valid-attachments": valid })).await.unwrap();
        assert_eq!(node.reports.take(), ["detached u1 in c1: 10.0.0.11", "detached u2 in c2: 10.0.0.12"]);
        assert_eq!(names(&node.attachments), ["c0-eth0.json", "c3-eth0.json"]);
        node.plugin("CHECK", "c0", &pods[0].path(), "u0").await.unwrap();
        node.plugin("CHECK", "c3", &pods[3].path(), "u3").await.unwrap();
        gc(json!({ "cni.dev/attachments": [] })).await.unwrap();
        assert_eq!(names(&node.attachments), ["c3-eth0.json"]);
    });
}

#[test]
fn check_compares_with_what_the_runtime_believes() {
    with_node("check_compares_with_what_the_runtime_believes", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let mut added = node.add("c1", &pod, "u1").await.unwrap();
        let check = async |previous: &Value| {
            node.plugin_given("CHECK", "c1", &pod.path(), "u1", json!({ "prevResult": previous })).await
        };
        check(&added).await.unwrap();
        added["ips"][0]["address"] = "10.0.0.6/32".into();
        let (code, text) = message(&check(&added).await).to_owned_pair();
        assert_eq!(code, 101);
        assert!(text.contains("10.0.0.6 of prevResult is not the pod's"), "{text}");
    });
}

#[test]
fn add_waits_a_moment_for_the_pods_peers_to_be_told() {
    with_node("add_waits_a_moment_for_the_pods_peers_to_be_told", FakePods::connected, async |node| {
        for (i, uid) in ["u1", "u2", "u3"].into_iter().enumerate() {
            node.pods.set(uid, 1234, 3, &[&format!("10.0.0.{}", 5 + i)]);
            node.pods.untold(uid);
        }
        // Told in time, never told, nobody there to tell.
        let pod = Pod::new();
        let late = async {
            tokio::time::sleep(Duration::from_millis(40)).await;
            node.pods.tell("u1");
        };
        let (added, ()) = tokio::join!(node.add("c1", &pod, "u1"), late);
        added.unwrap();
        let (started, pod) = (std::time::Instant::now(), Pod::new());
        node.add("c2", &pod, "u2").await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100));
        node.pods.disconnect();
        node.add("c3", &Pod::new(), "u3").await.unwrap();
        let metrics = node.metrics_text();
        for line in [
            "axoneme_cni_barrier_total{outcome=\"told\"} 1",
            "axoneme_cni_barrier_total{outcome=\"timeout\"} 1",
            "axoneme_cni_barrier_total{outcome=\"disconnected\"} 1",
            "axoneme_cni_barrier_wait_seconds_count 3",
            "axoneme_cni_add_seconds_count{barrier=\"excluded\"} 3",
            "axoneme_cni_datapath_seconds_count 3",
            "cilium_api_process_time_seconds_count{path=\"/v1/endpoint\",method=\"PUT\",return_code=\"201\"} 3",
        ] {
            assert!(metrics.lines().any(|have| have == line), "{line} is not in {metrics}");
        }
    });
}

#[test]
fn a_pod_that_a_policy_denies_somewhere_is_not_attached_before_its_peers_are_told() {
    with_node("a_pod_that_a_policy_denies_somewhere", FakePods::connected, async |node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.change("u1", |spec| spec.strict_barrier = true);
        node.pods.untold("u1");
        let pod = Pod::new();
        let (code, text) = message(&node.add("c1", &pod, "u1").await).to_owned_pair();
        assert_eq!(code, 11);
        assert!(text.starts_with("the peers of pod shop/u1 are not told of it yet"), "{text}");
        assert!(text.ends_with("(nodes that hold it have not answered)"), "{text}");
        node.nothing_is_left().await;
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.pods.tell("u1");
        };
        let (added, ()) = tokio::join!(node.add("c1", &pod, "u1"), later);
        added.unwrap();
        node.del("c1", "u1").await.unwrap();
        node.pods.untold("u1");
        node.pods.disconnect();
        let (code, text) = message(&node.add("c1", &pod, "u1").await).to_owned_pair();
        assert_eq!(code, 11);
        assert!(text.ends_with("(no operator is connected)"), "{text}");
        node.nothing_is_left().await;
    });
}

#[test]
fn limits_are_written_changed_in_place_and_removed() {
    with_node("limits_are_written_changed_in_place_and_removed", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.change("u1", |spec| spec.limits = Limits { egress: 1_250_000, ingress: 0 });
        node.add("c1", &pod, "u1").await.unwrap();
        assert_eq!(node.limits(), (EndpointFlags::EGRESS_LIMITED, "egress 1250000 free at 0".to_owned()));

        // The programs keep the time; a limit that stays the same does not take it from them.
        let key = *node.bandwidth_map.entries().keys().next().unwrap();
        let timed = Bandwidth { bytes_per_second: 1_250_000, free_at: 77, ..Bandwidth::default() };
        node.bandwidth_map.clone().update(&key, &timed).unwrap();
        let limited = |egress, ingress| Enforcement { limits: Limits { egress, ingress }, ..enforcement(1234, 3) };
        node.endpoints().enforce("u1", &limited(1_250_000, 500)).unwrap();
        let both = EndpointFlags::EGRESS_LIMITED | EndpointFlags::INGRESS_LIMITED;
        let expected = (both, "egress 1250000 free at 77, ingress 500 free at 0".to_owned());
        assert_eq!(node.limits(), expected);
        node.restart().await;
        assert_eq!(node.limits(), expected);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();

        node.bandwidth_map.delete_all();
        let (code, text) = message(&node.plugin("CHECK", "c1", &pod.path(), "u1").await).to_owned_pair();
        assert_eq!(code, 101);
        assert!(text.contains("map ax_bandwidth has not 1250000 bytes/s"), "{text}");
        node.restart().await;
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
        node.endpoints().enforce("u1", &limited(0, 500)).unwrap();
        assert_eq!(node.limits(), (EndpointFlags::INGRESS_LIMITED, "ingress 500 free at 0".to_owned()));
        node.del("c1", "u1").await.unwrap();
        node.nothing_is_left().await;
    });
}

#[test]
fn after_a_reboot_nothing_is_left_of_what_was_attached_before() {
    with_node("after_a_reboot_nothing_is_left", FakePods::connected, async |mut node| {
        let pods: Vec<Pod> = (0..2).map(|_| Pod::new()).collect();
        for (i, pod) in pods.iter().enumerate() {
            let (uid, address) = (format!("u{i}"), format!("10.0.0.{}", 10 + i));
            node.pods.set(&uid, 1, 1, &[address.as_str()]);
            node.pods.change(&uid, |spec| spec.limits.ingress = 1000);
            node.add(&format!("c{i}"), pod, &uid).await.unwrap();
        }
        node.reports.take();
        node.stop();
        // The files say that the kernel was another one. A device and entries that nobody has a file of are left, too.
        for container in ["c0", "c1"] {
            edit(&node.attachments, container, |attachment| attachment["bootId"] = "another".into());
        }
        let restored = node.restart().await;
        assert_eq!((restored.removed, restored.failed), (2, 0));
        assert_eq!(node.reports.take(), ["detached u0 in c0: 10.0.0.10", "detached u1 in c1: 10.0.0.11"]);
        assert_eq!(names(&node.attachments), Vec::<String>::new());
        assert_eq!(node.devices().await.len(), 2);
        node.endpoints().prune().await.unwrap();
        node.nothing_is_left().await;
        node.add("c0", &pods[0], "u0").await.unwrap();
    });
}

fn enforcement(identity: u32, policy_index: u32) -> Enforcement {
    Enforcement { identity, policy_index, limits: Limits::default() }
}

/// An error that outlives its answer.
trait ToOwnedPair {
    fn to_owned_pair(self) -> (u64, String);
}

impl ToOwnedPair for (u64, &str) {
    fn to_owned_pair(self) -> (u64, String) {
        (self.0, self.1.to_owned())
    }
}

fn rewrite(directory: &Path, container: &str, phase: Phase) {
    edit(directory, container, |attachment| attachment["phase"] = serde_json::to_value(phase).unwrap());
}

fn edit(directory: &Path, container: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(format!("{container}-eth0.json"));
    let mut attachment: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut attachment);
    std::fs::write(path, attachment.to_string()).unwrap();
}
