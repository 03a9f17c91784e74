//! A pod waits until its peers know it, and for nobody too long.

use std::time::Duration;

use axoneme_e2e::images::PAUSE;
use axoneme_e2e::metrics::Source;
use axoneme_e2e::process::ProcessId;
use axoneme_e2e::reach;
use serde_json::{Value, json};

use crate::lab::{Lab, eventually};

/// A daemon that neither hears nor says anything, until dropped.
struct Frozen(Vec<ProcessId>);

impl Frozen {
    fn daemon(lab: &Lab, n: usize) -> Self {
        let processes = lab.cluster.programs("axoneme-node", &[lab.index(n)]).unwrap();
        assert!(!processes.is_empty(), "the daemon runs");
        processes.iter().for_each(|process| process.signal(libc::SIGSTOP));
        Self(processes)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.signal(libc::SIGCONT));
    }
}

/// What node 0 counts.
fn count(lab: &Lab, name: &str, labels: &str) -> f64 {
    lab.cluster.node_metrics(lab.index(0), Source::Daemon).unwrap().sum(name, labels)
}

fn told(lab: &Lab) -> f64 {
    count(lab, "axoneme_cni_barrier_total", "outcome=\"told\"")
}

/// ADDs that gave up waiting, and nodes that they were not made to wait for.
fn unheard(lab: &Lab) -> f64 {
    let late = count(lab, "axoneme_cni_barrier_total", "outcome=\"timeout\"");
    late + count(lab, "axoneme_cni_barrier_skipped_nodes_total", "")
}

#[test]
fn a_pod_waits_for_its_peers_but_not_for_a_node_that_is_silent() {
    let lab = Lab::open();
    let workload = lab.workload("barrier");
    let server = lab.servers(&workload, &[("server", 1)]).remove(0);
    let guests = json!([{"from": [{"podSelector": {"matchLabels": {"app": "guests"}}}]}]);
    workload.policy("guests", &json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": guests})).unwrap();
    let before = (told(&lab), unheard(&lab));
    workload.deployment("guests", &lab.node(0), 1, PAUSE).unwrap();
    workload.deployment_ready("guests", 1, Duration::from_secs(60)).unwrap();
    assert!(told(&lab) > before.0, "the server's node was told first");

    // The server's node has to know of every guest, and says nothing.
    let frozen = Frozen::daemon(&lab, 1);
    let before = unheard(&lab);
    let path = format!("{}/guests", workload.path("apps/v1", "deployments"));
    lab.api.patch(&path, &json!({"spec": {"replicas": 2}})).unwrap();
    workload.deployment_ready("guests", 2, Duration::from_secs(60)).unwrap();
    assert!(unheard(&lab) > before, "it is counted that somebody does not know");
    drop(frozen);

    let guests = lab.api.list(&format!("{}?labelSelector=app%3Dguests", workload.path("", "pods"))).unwrap();
    assert_eq!(guests.len(), 2);
    for guest in &guests {
        let network = lab.cluster.pod_network(guest).unwrap();
        eventually("every guest is let in", || reach::probe(&network, server.http()).unwrap().reached());
    }
}

#[test]
fn a_pod_that_a_policy_denies_starts_when_all_who_hear_know_it() {
    let lab = Lab::open();
    let workload = lab.workload("barrier-strict");
    let server = lab.servers(&workload, &[("server", 1)]).remove(0);
    let spec = json!({
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "enableDefaultDeny": {"ingress": false},
        "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"k8s:app": "enemies"}}]}],
    });
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "no-enemies"}, "spec": spec,
    });
    lab.api.create(&workload.path("cilium.io/v2", "ciliumnetworkpolicies"), &policy).unwrap();
    let enemies = || lab.api.list(&format!("{}?labelSelector=app%3Denemies", workload.path("", "pods"))).unwrap();
    let reach = |enemy: &Value| reach::probe(&lab.cluster.pod_network(enemy).unwrap(), server.http()).unwrap();
    workload.deployment("enemies", &lab.node(0), 1, PAUSE).unwrap();
    workload.deployment_ready("enemies", 1, Duration::from_secs(60)).unwrap();
    assert!(enemies().iter().all(|enemy| !reach(enemy).reached()), "it is known from the first packet on");

    // Who is merely let in by nobody's rule would not be waited for longer than 100 ms, and counted as late.
    let late = || count(&lab, "axoneme_cni_barrier_total", "outcome=\"timeout\"");
    let skipped = || count(&lab, "axoneme_cni_barrier_skipped_nodes_total", "");
    let frozen = Frozen::daemon(&lab, 1);
    let before = (told(&lab), late(), skipped());
    let path = format!("{}/enemies", workload.path("apps/v1", "deployments"));
    lab.api.patch(&path, &json!({"spec": {"replicas": 2}})).unwrap();
    workload.deployment_ready("enemies", 2, Duration::from_secs(60)).unwrap();
    assert!(told(&lab) > before.0 && skipped() > before.2, "it starts when the silent node is given up");
    assert_eq!(late(), before.1, "and not before");
    drop(frozen);
    eventually("every enemy is kept out", || enemies().iter().all(|enemy| !reach(enemy).reached()));
}
