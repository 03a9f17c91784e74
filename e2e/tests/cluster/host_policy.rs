//! Policies of nodes: what hosts get and send, and what no policy takes from them.

use std::net::SocketAddr;
use std::time::Duration;

use axoneme_e2e::component::End;
use axoneme_e2e::outside::Outside;
use axoneme_e2e::reach;
use serde_json::{Value, json};

use crate::command::{good, json};
use crate::host_network::start;
use crate::lab::{HTTP, Lab, Server, eventually, steadily, within};
use crate::verdicts::{said, told};

const POLICIES: &str = "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies";
const NAME: &str = "of-nodes";

/// The policy; gone when dropped.
struct HostPolicy<'a>(&'a Lab);

impl<'a> HostPolicy<'a> {
    fn create(lab: &'a Lab, spec: &Value, audits: bool) -> Self {
        let annotations = if audits { json!({"policy.axoneme.io/audit": "true"}) } else { json!({}) };
        let metadata = json!({"name": NAME, "annotations": annotations});
        let object = json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": metadata, "spec": spec,
        });
        lab.api.create(POLICIES, &object).unwrap();
        Self(lab)
    }

    fn path() -> String {
        format!("{POLICIES}/{NAME}")
    }
}

impl Drop for HostPolicy<'_> {
    fn drop(&mut self) {
        let _ = self.0.api.delete(&Self::path());
    }
}

/// Where a pod of the host's network serves, in each family.
fn served(host: &Server, port: u16) -> Vec<SocketAddr> {
    host.ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

#[test]
fn a_node_gets_what_its_policies_allow_and_they_can_be_tried_out_before() {
    const PORT: u16 = 18094;
    let reaches = |from: &Server, host: &Server| served(host, PORT).into_iter().all(|to| from.ask(to).reached());
    let is_kept_out = |from: &Server, host: &Server| !served(host, PORT).into_iter().any(|to| from.ask(to).reached());
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    let workload = lab.workload("hostpolicy-in");
    let pods = lab.servers(&workload, &[("near", 0), ("stranger", 0)]);
    let hosts = start(&lab, &workload, PORT, &[("subject", 0), ("other", 1)]);
    let ([near, stranger], [subject, other]) = (pods.as_slice(), hosts.as_slice()) else { panic!("two of each") };
    let target = served(subject, PORT)[0];
    let world = outside.network().unwrap();
    let from_outside = || reach::probe(&world, target).unwrap().reached();
    let spec = json!({
        "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": lab.node(0)}},
        "ingress": [
            {"fromEndpoints": [{"matchLabels": {"k8s:app": "near", "k8s:io.kubernetes.pod.namespace": "hostpolicy-in"}}]},
            {"fromEntities": ["remote-node"], "toPorts": [{"ports": [{"port": (PORT + 1).to_string(), "protocol": "UDP"}]}]},
        ],
    });

    let policy = HostPolicy::create(&lab, &spec, true);
    let label = format!("ciliumclusterwidenetworkpolicy:/{NAME} -");
    let audited = said("audited", &label);
    eventually("what would be dropped passes and is told", || {
        assert!(reaches(stranger, subject) && reaches(other, subject) && from_outside(), "nothing is dropped");
        told(&lab, stranger, target).contains(&audited)
    });
    assert!(reaches(near, subject));
    assert!(!told(&lab, near, target).contains(&audited), "what it allows is not told as what it would drop");

    let annotation = json!({"metadata": {"annotations": {"policy.axoneme.io/audit": null}}});
    lab.api.patch(&HostPolicy::path(), &annotation).unwrap();
    eventually("a pod of the node's own is kept out", || is_kept_out(stranger, subject));
    eventually("that is told", || told(&lab, stranger, target).contains(&said("dropped", &label)));
    let list = json(&lab, &format!("policy verdicts --verdict dropped --policy {NAME}"));
    assert_eq!(list["items"][0]["destination"]["node"], lab.node(0), "{list:#}");
    assert!(reaches(near, subject), "another one is let in");
    assert!(is_kept_out(other, subject), "another node is kept out");
    for ip in &subject.ips {
        let outcome = reach::probe_udp(&other.network, SocketAddr::new(*ip, PORT + 1)).unwrap();
        assert!(outcome.reached(), "and let in at one port: {outcome:?}");
    }
    assert!(!from_outside(), "the world is kept out");

    // What it has to do with its pods, and the cluster with it, goes on.
    assert!(stranger.everywhere().all(|pod| subject.ask(pod).reached()), "the host reaches its pods");
    assert!(reaches(subject, other), "what it sends is not restricted, and answers come back");
    assert_eq!(lab.api.raw(&format!("/api/v1/nodes/{}/proxy/healthz", lab.node(0))).unwrap(), "ok", "its kubelet");
    drop(policy);
    eventually("without policies all is let in", || {
        reaches(stranger, subject) && reaches(other, subject) && from_outside()
    });
}

#[test]
fn a_policy_cannot_cut_the_way_that_repairs_it() {
    const PORT: u16 = 18096;
    let reaches = |from: &Server, host: &Server| served(host, PORT).into_iter().all(|to| from.ask(to).reached());
    let is_kept_out = |from: &Server, host: &Server| !served(host, PORT).into_iter().any(|to| from.ask(to).reached());
    let lab = Lab::open();
    let outside = Outside::start(&lab.cluster).unwrap();
    let workload = lab.workload("hostpolicy-all");
    let hosts = start(&lab, &workload, PORT, &[("a", 0), ("b", 1)]);
    let [a, b] = hosts.as_slice() else { panic!("two pods") };
    let everybody = json!({
        "nodeSelector": {},
        "ingressDeny": [{"fromEntities": ["all"]}],
        "egressDeny": [{"toEntities": ["all"]}],
    });
    let policy = HostPolicy::create(&lab, &everybody, false);
    eventually("no host reaches another one", || is_kept_out(a, b) && is_kept_out(b, a));
    for world in &outside.addresses {
        assert!(!a.ask(SocketAddr::new(*world, HTTP)).reached(), "or the world");
    }

    // The operator that made it goes, and a node's daemon; both come back through what the policy denies.
    let before = lab.cluster.programs("axoneme-node", &[lab.index(0)]).unwrap().len();
    lab.cluster.end_component("axoneme-node", &[lab.index(0)], End::Kill).unwrap();
    lab.cluster.end_component("axoneme-operator", &[], End::Kill).unwrap();
    within(Duration::from_secs(120), "the daemon is back", || {
        lab.cluster.programs("axoneme-node", &[lab.index(0)]).is_ok_and(|now| now.len() >= before)
    });
    // Asked by way of the kubelets: nodes' ports for metrics are denied like all others.
    good(&lab, "status --wait --wait-duration 120s");
    let pods = lab.servers(&workload, &[("on-a", 0), ("on-b", 1)]);
    for target in pods[0].everywhere() {
        eventually("pods are started and reach one another", || pods[1].ask(target).reached());
    }
    steadily("the policy holds", || is_kept_out(a, b));

    drop(policy);
    eventually("without the policy hosts reach one another", || reaches(a, b) && reaches(b, a));
}
