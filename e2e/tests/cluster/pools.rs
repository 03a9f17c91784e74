//! Several pools of addresses. They need a cluster with multi-pool.yaml.

use std::time::Duration;

use axoneme_e2e::workload::{Workload, pod_ips};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::lab::{HTTP, Lab, Server, eventually, within};

const POOLS: &str = "/apis/cilium.io/v2alpha1/ciliumpodippools";

/// The annotation by which a pod names a pool.
const POOL: &str = "ipam.cilium.io/ip-pool";

/// The one that keeps it from the default pool.
const REQUIRE_MATCH: &str = "ipam.cilium.io/require-pool-match";

/// What waits for something else gets an event after 10 s.
const TOLD: Duration = Duration::from_secs(25);

/// What the kubelet tries again takes its time.
const RETRIED: Duration = Duration::from_secs(60);

/// A pool of the scenario's own; gone when dropped.
struct Pool<'a> {
    lab: &'a Lab,
    name: &'static str,
    cidrs: Vec<IpNet>,
}

impl<'a> Pool<'a> {
    /// One with room for two pods on each of two nodes.
    fn create(lab: &'a Lab, name: &'static str, v4: &str, v6: &str, selector: Option<Value>) -> Self {
        let mut spec = json!({});
        let mut cidrs = Vec::new();
        for (enabled, family, cidr, mask) in
            [(lab.state().family.v4(), "ipv4", v4, 30), (lab.state().family.v6(), "ipv6", v6, 126)]
        {
            if enabled {
                spec[family] = json!({"cidrs": [cidr], "maskSize": mask});
                cidrs.push(cidr.parse().unwrap());
            }
        }
        if let Some(selector) = selector {
            spec["podSelector"] = selector;
        }
        let pool = json!({
            "apiVersion": "cilium.io/v2alpha1",
            "kind": "CiliumPodIPPool",
            "metadata": {"name": name},
            "spec": spec,
        });
        lab.api.create(POOLS, &pool).unwrap();
        Self { lab, name, cidrs }
    }

    fn has_all(&self, server: &Server) -> bool {
        server.ips.iter().all(|ip| self.cidrs.iter().any(|cidr| cidr.contains(ip)))
    }

    fn delete(&self) {
        self.lab.api.delete(&format!("{POOLS}/{}", self.name)).unwrap();
    }

    /// Whether the `n`th node has anything of it.
    fn is_on(&self, n: usize) -> bool {
        let node = self.lab.api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{}", self.lab.node(n))).unwrap();
        let allocated = node["spec"]["ipam"]["pools"]["allocated"].as_array().cloned().unwrap_or_default();
        allocated.iter().any(|pool| pool["pool"] == self.name)
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        let _ = self.lab.api.delete(&format!("{POOLS}/{}", self.name));
    }
}

/// A cluster with pools; none where this one has none.
fn open() -> Option<Lab> {
    let lab = Lab::open();
    if lab.api.find(&format!("{POOLS}/default")).unwrap().is_none() {
        println!("skipped: the cluster is not in mode multi-pool; see multi-pool.yaml");
        return None;
    }
    Some(lab)
}

fn all_talk(servers: &[&Server]) {
    for (from, to) in servers.iter().flat_map(|from| servers.iter().map(move |to| (from, to))) {
        for target in to.everywhere() {
            let outcome = from.ask(target);
            assert!(outcome.reached(), "{} to {} at {target}: {outcome:?}", from.name, to.name);
        }
    }
}

fn delete(lab: &Lab, workload: &Workload<'_>, pods: &[&str]) {
    let path = workload.path("", "pods");
    pods.iter().for_each(|pod| lab.api.delete(&format!("{path}/{pod}")).unwrap());
}

#[test]
fn pods_get_addresses_of_the_pool_that_they_name_and_nodes_give_them_back() {
    let Some(lab) = open() else { return };
    let workload = lab.workload("pools");
    let blue = Pool::create(&lab, "scenario-blue", "10.99.0.0/29", "fd99::/125", None);
    // Who names a pool that is not there waits, and is told; who goes on is not concerned.
    lab.annotated(&workload, "lost", 0, &[(POOL, "nowhere")]);
    let plain = lab.servers(&workload, &[("plain-0", 0), ("plain-1", 1)]);
    for (name, node) in [("blue-0", 0), ("blue-1", 1)] {
        lab.annotated(&workload, name, node, &[(POOL, blue.name)]);
    }
    let of_blue = ["blue-0", "blue-1"].map(|name| lab.server(&workload, name));
    assert!(of_blue.iter().all(|server| blue.has_all(server)), "of the pool that they name");
    assert!(!plain.iter().any(|server| blue.has_all(server)), "of the default pool");
    let all = [&plain[0], &plain[1], &of_blue[0], &of_blue[1]];
    all_talk(&all);

    // Each node has room for one more.
    for name in ["crowd-0", "crowd-1"] {
        lab.annotated(&workload, name, 0, &[(POOL, blue.name)]);
    }
    let said = |kind: &str, name: &str| lab.events(kind, name, "FailedAddressAllocation").join("\n");
    let short = |pod: &&str| said("Pod", pod).contains(&format!("pool {}", blue.name));
    within(TOLD, "the user of the pod without an address is told", || ["crowd-0", "crowd-1"].iter().any(short));
    eventually("the pool's owner is told", || said("CiliumPodIPPool", blue.name).contains("has nothing left for node"));
    within(TOLD, "who names no pool is told", || said("Pod", "lost").contains("nowhere, which does not exist"));

    // The pool goes although it is used, and its pods do not notice. When they go, so does what nodes have of it.
    blue.delete();
    all_talk(&all);
    assert!(blue.is_on(0) && blue.is_on(1));
    delete(&lab, &workload, &["lost", "crowd-0", "crowd-1", "blue-0", "blue-1"]);
    within(RETRIED, "nodes have given back what nobody uses", || !blue.is_on(0) && !blue.is_on(1));
    all_talk(&all[..2]);
}

#[test]
fn a_pod_that_is_kept_from_the_default_pool_waits_for_one_that_selects_it() {
    let Some(lab) = open() else { return };
    let workload = lab.workload("pools-match");
    lab.annotated(&workload, "strict", 0, &[(REQUIRE_MATCH, "true")]);
    let pod = format!("{}/strict", workload.path("", "pods"));
    within(TOLD, "it is told what it waits for", || {
        lab.events("Pod", "strict", "FailedAddressAllocation").iter().any(|note| note.contains(REQUIRE_MATCH))
    });
    assert!(pod_ips(&lab.api.get(&pod).unwrap()).is_err(), "it has no address");
    let selector = json!({"matchLabels": {"app": "strict", "io.kubernetes.pod.namespace": workload.namespace}});
    let green = Pool::create(&lab, "scenario-green", "10.98.0.0/29", "fd98::/125", Some(selector));
    let strict = lab.server(&workload, "strict");
    assert!(green.has_all(&strict), "{:?} are of the pool that selects it", strict.ips);
    assert!(strict.ask(std::net::SocketAddr::new(strict.ip, HTTP)).reached());
    delete(&lab, &workload, &["strict"]);
    within(RETRIED, "its node has given it back", || !green.is_on(0));
}
