//! A daemon's CNI half, and how tests ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axoneme_bpf::address::{Address, AddressKey};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::inet::Direction;
use axoneme_bpf::maps;
use axoneme_node::desired::pods::Limits;
use axoneme_node::endpoint::metrics::Metrics;
use axoneme_node::endpoint::store::Store;
use axoneme_node::endpoint::{EndpointMaps, Endpoints, Parts, Phase, server};
use axoneme_node::link::Links;
use axoneme_node::maps::{Faulty, MemoryMap};
use axoneme_node::reconcile::ops::Enforcement;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::plugin::{self, Call};
use crate::common::{
    Bottle, FakePods, FakeReports, Pod, SharedPods, block_on, names, on_node, pin_trivial_programs, privileged,
};

/// A daemon's CNI half, and all that outlives it.
pub struct Node {
    socket: PathBuf,
    pub attachments: PathBuf,
    pub deferred: PathBuf,
    pub paths: axoneme_node::programs::Paths,
    pub endpoint_map: MemoryMap<u32, Endpoint>,
    pub address_map: MemoryMap<AddressKey, Address>,
    pub bandwidth_map: MemoryMap<BandwidthKey, Bandwidth>,
    metrics: Metrics,
    /// Of a hundred operations on maps, how many fail.
    pub faults: u64,
    links: Links,
    pub pods: Arc<FakePods>,
    pub reports: FakeReports,
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
    pub async fn restart(&mut self) -> axoneme_node::endpoint::Restored {
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

    pub fn stop(&mut self) {
        if let Some((_, server)) = self.daemon.take() {
            server.abort();
        }
    }

    pub fn endpoints(&self) -> &Endpoints {
        &self.daemon.as_ref().unwrap().0
    }

    pub async fn plugin(&self, command: &str, container: &str, netns: &str, uid: &str) -> Result<Value, Value> {
        self.plugin_with(command, container, netns, uid, "1.0.0").await
    }

    /// Runs the plugin as a runtime does.
    pub async fn plugin_with(
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
    pub async fn plugin_given(
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
        plugin::run(
            Path::new(env!("CARGO_BIN_EXE_axoneme-cni")),
            Call { command, container, netns, arguments: &args },
            &config,
        )
        .await
    }

    pub async fn add(&self, container: &str, pod: &Pod, uid: &str) -> Result<Value, Value> {
        self.plugin("ADD", container, &pod.path(), uid).await
    }

    pub async fn del(&self, container: &str, uid: &str) -> Result<Value, Value> {
        self.plugin("DEL", container, "", uid).await
    }

    /// So many pods, with a row each: u0 with 10.0.0.10, u1 with 10.0.0.11 and so on.
    pub fn several(&self, count: usize) -> Vec<Pod> {
        let pod = |i| {
            self.pods.set(&format!("u{i}"), 1, 1, &[&format!("10.0.0.{}", 10 + i)]);
            Pod::new()
        };
        (0..count).map(pod).collect()
    }

    /// Adds u0 as c0, u1 as c1 and so on.
    pub async fn add_each(&self, pods: &[Pod]) {
        for (i, pod) in pods.iter().enumerate() {
            self.add(&format!("c{i}"), pod, &format!("u{i}")).await.unwrap();
        }
    }

    /// The pod devices that exist.
    pub async fn devices(&self) -> Vec<String> {
        let devices = self.links.devices().await.unwrap();
        let mut names: Vec<_> = devices.into_iter().map(|d| d.name).filter(|name| name.starts_with("axo")).collect();
        names.sort();
        names
    }

    /// Entries as text: `identity/policy@address` by device, and where addresses lead.
    pub async fn entries(&self) -> Vec<String> {
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
    pub fn limits(&self) -> (EndpointFlags, String) {
        let endpoint = *self.endpoint_map.entries().values().next().unwrap();
        let mut limits: Vec<String> = Vec::new();
        for (key, limit) in self.bandwidth_map.entries() {
            let direction = if key.direction == Direction::EGRESS { "egress" } else { "ingress" };
            limits.push(format!("{direction} {} free at {}", limit.bytes_per_second, limit.free_at));
        }
        limits.sort();
        (endpoint.flags, limits.join(", "))
    }

    pub fn metrics_text(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.metrics.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    pub async fn nothing_is_left(&self) {
        assert_eq!(self.devices().await, Vec::<String>::new());
        assert_eq!(self.entries().await, Vec::<String>::new());
        assert!(self.bandwidth_map.entries().is_empty());
        assert_eq!(names(&self.attachments), Vec::<String>::new());
    }
}

pub fn with_node<F>(test: &str, pods: fn() -> Arc<FakePods>, scenario: F)
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

pub fn message(answer: &Result<Value, Value>) -> (u64, &str) {
    let error = answer.as_ref().unwrap_err();
    (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap())
}

pub fn reserve() -> Arc<FakePods> {
    FakePods::alone_with_reserve("10.0.0.224", "10.0.0.225")
}

pub fn enforcement(identity: u32, policy_index: u32) -> Enforcement {
    Enforcement { identity, policy_index, limits: Limits::default() }
}

/// An error that outlives its answer.
pub trait ToOwnedPair {
    fn to_owned_pair(self) -> (u64, String);
}

impl ToOwnedPair for (u64, &str) {
    fn to_owned_pair(self) -> (u64, String) {
        (self.0, self.1.to_owned())
    }
}

pub fn rewrite(directory: &Path, container: &str, phase: Phase) {
    edit(directory, container, |attachment| attachment["phase"] = serde_json::to_value(phase).unwrap());
}

pub fn edit(directory: &Path, container: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.join(format!("{container}-eth0.json"));
    let mut attachment: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut attachment);
    std::fs::write(path, attachment.to_string()).unwrap();
}
