//! What scenarios are made of.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axoneme_e2e::api::Api;
use axoneme_e2e::cluster::{Cluster, Shape};
use axoneme_e2e::kubectl::run;
use axoneme_e2e::metrics::Source;
use axoneme_e2e::paths::Paths;
use axoneme_e2e::reach::{self, Outcome};
use axoneme_e2e::state::State;
use axoneme_e2e::version::Version;
use axoneme_e2e::workload::{Workload, pod_ip, pod_ips};
use axoneme_e2e::{helm, images, load};
use ipnet::IpNet;
use serde_json::{Value, json};

pub(crate) const HTTP: u16 = 8080;
pub(crate) const UDP: u16 = 8081;

/// The cluster that all scenarios share.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) api: Api,
    agnhost: String,
    _one_at_a_time: MutexGuard<'static, ()>,
}

/// A cluster of a scenario's own, beside the shared one; removed when dropped.
pub(crate) struct OwnCluster {
    pub(crate) lab: Lab,
    /// What the shared cluster runs.
    version: Version,
}

impl OwnCluster {
    /// Starts it. Its name is that of the shared cluster with a letter behind.
    pub(crate) fn start(letter: char, shape: Shape) -> Self {
        let (guard, name) = turn();
        let paths = || Paths::from_environment().unwrap();
        let shared = Cluster::new(paths(), &name).unwrap();
        let loaded = load::recorded(&shared.folder, shared.nodes().unwrap()[0]);
        // The newest, where a cluster was given several.
        let archive = |image: &str| {
            let named = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(image);
            let age = |path: &&PathBuf| path.metadata().and_then(|m| m.modified()).ok();
            loaded.iter().filter(named).max_by_key(age).expect("the shared cluster runs this project").clone()
        };
        let version = Version::of_archives(&shared.paths, [archive("operator-"), archive("node-")]);
        let cluster = Cluster::new(paths(), &format!("{name}{letter}")).unwrap();
        cluster.down().unwrap();
        cluster.up(shape).unwrap();
        Self { lab: Lab::of(cluster, guard), version }
    }

    /// Installs this project with these values.
    pub(crate) fn install(&self, set: &[&str]) {
        helm::install(&self.lab.cluster, &self.version, set, None).unwrap();
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            helm::explain(&self.lab.cluster);
        }
        self.lab.cluster.down().expect("the scenario's own cluster is removed");
    }
}

/// Waits for other scenarios to end; gives the name of the shared cluster.
fn turn() -> (MutexGuard<'static, ()>, String) {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = std::env::var("AXONEME_E2E_CLUSTER").expect("AXONEME_E2E_CLUSTER names a running cluster; see main.rs");
    (guard, name)
}

/// A pod that serves its name, by HTTP at [`HTTP`] and by UDP at [`UDP`].
pub(crate) struct Server {
    pub(crate) name: String,
    /// Its first address.
    pub(crate) ip: IpAddr,
    /// All of them, one a family.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) network: File,
    pub(crate) object: Value,
}

impl Server {
    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::new(self.ip, HTTP)
    }

    /// Where it serves, in each family.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.ips.iter().map(|ip| SocketAddr::new(*ip, HTTP))
    }

    /// Its address of the same family as `other`.
    pub(crate) fn like(&self, other: IpAddr) -> IpAddr {
        of_family(&self.ips, other).unwrap_or_else(|| panic!("{} has no address like {other}", self.name))
    }

    /// What comes of asking `target` by HTTP.
    pub(crate) fn ask(&self, target: SocketAddr) -> Outcome {
        reach::probe(&self.network, target).unwrap()
    }
}

impl Lab {
    pub(crate) fn open() -> Self {
        let (guard, name) = turn();
        crate::command::built();
        let lab = Self::of(Cluster::new(Paths::from_environment().unwrap(), &name).unwrap(), guard);
        lab.nodes_follow();
        lab
    }

    /// Waits until every node follows an operator. Where one is known to be, a node looks every 15 s at the latest; on other nodes
    /// it looks every few seconds.
    pub(crate) fn nodes_follow(&self) {
        let follows = |node| {
            let metrics = self.cluster.node_metrics(node, Source::Daemon);
            metrics.is_ok_and(|metrics| metrics.sum("axoneme_nodesync_connected", "") >= 1.0)
        };
        within(Duration::from_secs(30), "every node follows an operator", || {
            self.cluster.nodes().unwrap().into_iter().all(follows)
        });
    }

    /// Waits until no other pods are connected than `workload`'s and the system's. A pod of an earlier scenario is deleted without
    /// a grace, so it goes on sending for a while when its object has gone already.
    pub(crate) fn others_are_gone(&self, workload: &Workload<'_>) {
        let connected = || {
            let on = |node| self.cluster.node_metrics(node, Source::Daemon).unwrap().sum("cilium_endpoint_state", "");
            self.cluster.nodes().unwrap().into_iter().map(on).sum::<f64>()
        };
        within(Duration::from_secs(60), "no pod of another scenario is connected", || {
            let mut pods = self.api.list("/api/v1/pods").unwrap();
            pods.retain(|pod| pod["spec"]["hostNetwork"] != true);
            let known = |pod: &Value| {
                ["kube-system", &workload.namespace].iter().any(|ours| pod["metadata"]["namespace"] == **ours)
            };
            pods.iter().all(known) && connected() == pods.len() as f64
        });
    }

    fn of(cluster: Cluster, guard: MutexGuard<'static, ()>) -> Self {
        let api = cluster.api().unwrap();
        let agnhost = images::agnhost_name(&cluster.paths).unwrap();
        Self { cluster, api, agnhost, _one_at_a_time: guard }
    }

    pub(crate) fn workload(&self, name: &str) -> Workload<'_> {
        Workload::new(&self.api, name).unwrap()
    }

    /// The name of the `n`th node, beginning again after the last.
    pub(crate) fn node(&self, n: usize) -> String {
        let nodes = self.cluster.nodes().unwrap();
        self.cluster.folder.node_name(nodes[n % nodes.len()])
    }

    /// Starts servers: a name and the number of a node each. Gives them when all are ready.
    pub(crate) fn servers(&self, workload: &Workload<'_>, wanted: &[(&str, usize)]) -> Vec<Server> {
        let (http, udp) = (format!("--http-port={HTTP}"), format!("--udp-port={UDP}"));
        for (name, node) in wanted {
            workload.pod(name, &self.node(*node), &self.agnhost, &["netexec", &http, &udp]).unwrap();
        }
        wanted.iter().map(|(name, _)| self.server(workload, name)).collect()
    }

    /// A server that was started, when it is ready and answers.
    pub(crate) fn server(&self, workload: &Workload<'_>, name: &str) -> Server {
        self.server_at(workload, name, HTTP)
    }

    /// As [`Lab::server`], of one that serves at another port.
    pub(crate) fn server_at(&self, workload: &Workload<'_>, name: &str, port: u16) -> Server {
        let object = workload.ready(name).unwrap();
        let network = self.cluster.pod_network(&object).unwrap();
        let server = Server {
            name: name.to_owned(),
            ip: pod_ip(&object).unwrap(),
            ips: pod_ips(&object).unwrap(),
            network,
            object,
        };
        // Ready means that the process runs, not that it listens already.
        eventually(&format!("{name} serves"), || server.ask(SocketAddr::new([127, 0, 0, 1].into(), port)).reached());
        server
    }

    /// Starts one server with annotations.
    pub(crate) fn annotated(&self, workload: &Workload<'_>, name: &str, node: usize, annotations: &[(&str, &str)]) {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        let arguments = ["netexec".to_owned(), format!("--http-port={HTTP}"), format!("--udp-port={UDP}")];
        self.create(workload, name, node, json!({ "annotations": annotations }), json!({}), &arguments);
    }

    /// Creates a pod of agnhost, with more in its metadata and its specification than all have.
    pub(crate) fn create(
        &self,
        workload: &Workload<'_>,
        name: &str,
        node: usize,
        mut metadata: Value,
        mut spec: Value,
        arguments: &[String],
    ) {
        metadata["name"] = name.into();
        metadata["labels"] = json!({ "app": name });
        spec["nodeName"] = self.node(node).into();
        spec["terminationGracePeriodSeconds"] = 0.into();
        spec["containers"] = json!([{"name": "main", "image": self.agnhost, "args": arguments}]);
        self.api.create(&workload.path("", "pods"), &json!({ "metadata": metadata, "spec": spec })).unwrap();
    }

    /// Starts one server on a node that is known by its number in the cluster.
    pub(crate) fn start_on(&self, workload: &Workload<'_>, name: &str, node: u8) {
        let (http, udp) = (format!("--http-port={HTTP}"), format!("--udp-port={UDP}"));
        let node = self.cluster.folder.node_name(node);
        workload.pod(name, &node, &self.agnhost, &["netexec", &http, &udp]).unwrap();
    }

    /// Events about an object, by its kind and name, with this reason: their notes.
    pub(crate) fn events(&self, kind: &str, name: &str, reason: &str) -> Vec<String> {
        let all = self.api.list("/apis/events.k8s.io/v1/events").unwrap();
        let about = |event: &&Value| {
            let regarding = &event["regarding"];
            event["reason"] == reason && regarding["kind"] == kind && regarding["name"] == name
        };
        all.iter().filter(about).map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What the cluster is like.
    pub(crate) fn state(&self) -> State {
        self.cluster.folder.expect().unwrap()
    }

    /// The number of the `n`th node, beginning again after the last.
    pub(crate) fn index(&self, n: usize) -> u8 {
        let nodes = self.cluster.nodes().unwrap();
        nodes[n % nodes.len()]
    }

    /// The addresses of the `n`th node, one a family.
    pub(crate) fn node_ips(&self, n: usize) -> Vec<IpAddr> {
        self.state().addresses().node(self.index(n)).iter().map(ipnet::IpNet::addr).collect()
    }

    /// What the `n`th node's pods have addresses of, of all pools.
    pub(crate) fn pod_cidrs(&self, n: usize) -> Vec<IpNet> {
        let ledger = self.api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{}", self.node(n))).unwrap();
        let ipam = &ledger["spec"]["ipam"];
        let pools = ipam["pools"]["allocated"].as_array().into_iter().flatten().map(|pool| &pool["cidrs"]);
        let cidrs = pools.chain([&ipam["podCIDRs"]]).filter_map(Value::as_array).flatten();
        cidrs.map(|cidr| cidr.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Runs a command on the `n`th node; fails when it does.
    pub(crate) fn on_node(&self, n: usize, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = self.cluster.node_command(self.index(n), words.next().unwrap()).unwrap();
        run(command.args(words)).unwrap()
    }

    /// The network namespace of a node.
    pub(crate) fn node_network(&self, n: usize) -> File {
        let state = self.cluster.folder.expect().unwrap();
        let nodes: Vec<_> = state.nodes.values().collect();
        File::open(format!("/proc/{}/ns/net", nodes[n % nodes.len()].init.pid)).unwrap()
    }
}

/// How many packets the `n`th node has dropped for a reason.
pub(crate) fn dropped(lab: &Lab, n: usize, reason: &str) -> f64 {
    let metrics = lab.cluster.node_metrics(lab.index(n), Source::Daemon).unwrap();
    metrics.sum("cilium_drop_count_total", &format!("reason=\"{reason}\""))
}

/// The address of the same family as `other`.
pub(crate) fn of_family(ips: &[IpAddr], other: IpAddr) -> Option<IpAddr> {
    ips.iter().copied().find(|ip| ip.is_ipv4() == other.is_ipv4())
}

/// Waits until `condition` holds; fails after 20 seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, &mut condition);
}

/// Waits until `condition` holds; fails after `patience`.
#[track_caller]
pub(crate) fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {patience:?} until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Checks that `condition` holds now and goes on to hold for a while.
#[track_caller]
pub(crate) fn steadily(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(condition(), "not any more: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
