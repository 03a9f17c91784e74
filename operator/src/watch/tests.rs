use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::sync::mpsc;

use super::follow::Known;
use super::guard::Guarded;
use super::*;
use crate::object::{Labels, PortRef};

impl Sink for mpsc::UnboundedSender<Input> {
    async fn deliver(&self, input: Input) -> bool {
        self.send(input).is_ok()
    }
}

fn decode<K: Watched>(json: serde_json::Value) -> Guarded<K> {
    serde_json::from_str(&json.to_string()).unwrap()
}

fn object<K: Watched>(json: serde_json::Value) -> (Object, Vec<Problem>) {
    let mut context = Context::default();
    let Guarded::Valid(object) = decode::<K>(json) else { panic!("invalid") };
    (object.convert(&mut context).unwrap(), context.take_problems())
}

fn pod(name: &str, uid: &str) -> Guarded<pod::Pod> {
    pod_of(name, uid, 1)
}

fn pod_of(name: &str, uid: &str, version: u64) -> Guarded<pod::Pod> {
    decode(json!({"metadata": {"namespace": "a", "name": name, "uid": uid, "resourceVersion": version.to_string()}}))
}

fn drain(receiver: &mut mpsc::UnboundedReceiver<Input>) -> Vec<String> {
    let mut said = Vec::new();
    while let Ok(input) = receiver.try_recv() {
        said.push(match input {
            Input::Upsert(object) => format!("+{}", object.key()),
            Input::Delete(key) => format!("-{key}"),
            Input::Synced(kind) => format!("synced {kind}"),
            Input::Seen(kind, version) => format!("{kind} up to {version}"),
            other => format!("{other:?}"),
        });
    }
    said
}

#[tokio::test]
async fn a_relist_says_what_is_gone_and_what_was_replaced() {
    let (sink, mut inputs) = mpsc::unbounded_channel();
    let (problems, _) = mpsc::unbounded_channel();
    let mut known = Known::<pod::Pod, _>::new(sink, problems);
    for event in [Event::Init, Event::InitApply(pod("x", "1")), Event::InitApply(pod("y", "2")), Event::InitDone] {
        assert!(known.event(event).await);
    }
    assert_eq!(drain(&mut inputs), ["+Pod a/x", "+Pod a/y", "Pod up to 1", "synced Pod"]);
    for event in [Event::Apply(pod("z", "3")), Event::Delete(pod("z", "3")), Event::Delete(pod("z", "3"))] {
        known.event(event).await;
    }
    assert_eq!(drain(&mut inputs), ["+Pod a/z", "-Pod a/z"]);
    // x was recreated and y deleted while the watch was down.
    for event in [Event::Init, Event::InitApply(pod("x", "9")), Event::InitDone] {
        known.event(event).await;
    }
    assert_eq!(drain(&mut inputs), ["-Pod a/x", "+Pod a/x", "-Pod a/y"]);
    known.absent().await;
    assert_eq!(drain(&mut inputs), Vec::<String>::new(), "nothing is gone because it was not heard of");
}

#[tokio::test]
async fn how_new_things_are_is_said_behind_them() {
    let (sink, mut inputs) = mpsc::unbounded_channel();
    let (problems, _) = mpsc::unbounded_channel();
    let mut known = Known::<pod::Pod, _>::new(sink, problems);
    for event in [Event::Init, Event::InitApply(pod_of("x", "1", 7)), Event::InitApply(pod_of("y", "2", 5))] {
        known.event(event).await;
    }
    assert_eq!(drain(&mut inputs), ["+Pod a/x", "+Pod a/y"], "something older may follow");
    known.event(Event::InitDone).await;
    assert_eq!(drain(&mut inputs), ["Pod up to 7", "synced Pod"]);
    known.event(Event::Apply(pod_of("z", "3", 8))).await;
    known.event(Event::Delete(pod_of("z", "3", 9))).await;
    assert_eq!(drain(&mut inputs), ["+Pod a/z", "Pod up to 8", "-Pod a/z", "Pod up to 9"]);
    // A list that was asked for, after versions went back.
    known.asked = Some(12);
    for event in [Event::Init, Event::InitApply(pod_of("x", "1", 4)), Event::InitDone] {
        known.event(event).await;
    }
    assert_eq!(drain(&mut inputs), ["+Pod a/x", "-Pod a/y", "Listed(Pod, 12)"]);
}

#[tokio::test]
async fn an_absent_kind_is_synced_and_empty() {
    let (sink, mut inputs) = mpsc::unbounded_channel();
    let (problems, _) = mpsc::unbounded_channel();
    let mut known = Known::<cilium_node::Ledger, _>::new(sink, problems);
    known.absent().await;
    known.absent().await;
    assert_eq!(drain(&mut inputs), ["synced CiliumNode"]);
}

#[tokio::test]
async fn an_undecodable_policy_closes_its_namespace_and_is_reported() {
    let (sink, mut inputs) = mpsc::unbounded_channel();
    let (problems, mut reported) = mpsc::unbounded_channel();
    let mut known = Known::<network_policy::Policy, _>::new(sink, problems);
    let bad = || {
        decode(json!({"metadata": {"namespace": "a", "name": "p", "uid": "1"},
            "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": 7}]}]}}))
    };
    known.event(Event::Init).await;
    known.event(Event::InitApply(bad())).await;
    let Input::Upsert(Object::NetworkPolicy(policy)) = inputs.try_recv().unwrap() else { panic!() };
    assert!(policy.pod_selector.is_empty() && policy.ingress.is_empty());
    assert_eq!(policy.policy_types.as_ref().unwrap().len(), 2);
    let said = reported.try_recv().unwrap();
    assert_eq!((&*said.uid, &*said.problems[0].field), ("1", "spec.ingress[0].from[0].podSelector"));
    let good = decode(json!({"metadata": {"namespace": "a", "name": "p", "uid": "1"}, "spec": {"podSelector": {}}}));
    known.event(Event::Apply(good)).await;
    assert!(reported.try_recv().unwrap().problems.is_empty(), "it is fine again");
    known.event(Event::Apply(bad())).await;
    known.event(Event::Delete(bad())).await;
    assert_eq!(reported.try_recv().unwrap().problems.len(), 2);
    assert!(reported.try_recv().unwrap().problems.is_empty(), "it is gone");
}

#[tokio::test]
async fn other_kinds_that_cannot_be_decoded_do_not_exist() {
    let (sink, mut inputs) = mpsc::unbounded_channel();
    let (problems, mut reported) = mpsc::unbounded_channel();
    let mut known = Known::<service::Service, _>::new(sink, problems);
    let service = |port: serde_json::Value| {
        decode(json!({"metadata": {"namespace": "a", "name": "s", "uid": "1"}, "spec": {"ports": [{"port": port}]}}))
    };
    known.event(Event::Apply(service(json!(80)))).await;
    known.event(Event::Apply(service(json!(70_000)))).await;
    assert_eq!(drain(&mut inputs), ["+Service a/s", "-Service a/s"]);
    assert_eq!(&*reported.try_recv().unwrap().problems[0].field, "spec.ports[0].port");
}

#[test]
fn pods() {
    let (object, problems) = object::<pod::Pod>(json!({
        "metadata": {
            "namespace": "a", "name": "x", "uid": "1", "resourceVersion": "5", "labels": {"app": "web"},
            "annotations": {"kubernetes.io/config.mirror": "m", "big": "x".repeat(1000)},
            "managedFields": [{"manager": "kubelet"}], "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]}],
            "initContainers": [{"ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"}]}],
        },
        "status": {"phase": "Failed"},
    }));
    let Object::Pod(pod) = object else { panic!() };
    assert_eq!((pod.endpoint_key().as_ref(), pod.node.as_deref()), ("m", Some("n1")));
    assert_eq!(pod.labels, [("app", "web")].into_iter().collect::<Labels>());
    let ports: Vec<_> = pod.ports.iter().map(|p| (&*p.name, p.protocol.number(), p.port)).collect();
    assert_eq!(ports, [("http", 6, 80), ("dns", 17, 53)]);
    assert!(pod.deleting && pod.finished && !pod.host_network);
    assert_eq!(problems, []);
}

#[test]
fn nodes_and_ledgers() {
    let (object, _) = object::<node::Node>(json!({
        "metadata": {"name": "n1", "uid": "u"},
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}],
            "capacity": {"pods": "200"}, "allocatable": {"pods": "110", "cpu": "2"},
        },
    }));
    let Object::Node(node) = object else { panic!() };
    assert_eq!((node.max_pods, node.internal_ips.len(), node.pod_cidrs.len()), (110, 1, 1));

    let (object, problems) = self::object::<cilium_node::Ledger>(json!({
        "metadata": {"name": "n1", "uid": "c", "resourceVersion": "9",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]},
        "spec": {
            "addresses": [{"type": "CiliumInternalIP", "ip": "10.0.0.1"}, {"type": "InternalIP", "ip": "oops"}],
            "ipam": {"podCIDRs": ["10.0.0.0/24"], "pool": {"10.0.0.2": {"owner": "a/x", "resource": "1"}, "bad": {}}},
        },
    }));
    let Object::CiliumNode(ledger) = object else { panic!() };
    assert_eq!((ledger.pool.len(), ledger.addresses.len(), ledger.node_uid.as_deref()), (1, 1, Some("u")));
    let fields: Vec<_> = problems.iter().map(|p| &*p.field).collect();
    assert_eq!(fields, ["spec.ipam.pool", "spec.addresses"]);
    assert!(!ledger.keep);
}

#[test]
fn a_cilium_node_is_kept_by_its_annotation_or_by_another_owner() {
    let keep = |annotation: &str, owner: &str| {
        let (object, _) = object::<cilium_node::Ledger>(json!({"metadata": {
            "name": "n1",
            "annotations": {"cilium.io/do-not-gc": annotation},
            "ownerReferences": [{"apiVersion": "v1", "kind": owner, "name": "n1", "uid": "u"}],
        }}));
        let Object::CiliumNode(ledger) = object else { panic!() };
        ledger.keep
    };
    assert!(keep("True", "Node"));
    assert!(!keep("false", "Node"));
    assert!(keep("", "Machine"));
}

#[test]
fn services_and_slices() {
    let (object, _) = object::<service::Service>(json!({
        "metadata": {"namespace": "a", "name": "s"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "sessionAffinity": "ClientIP", "ports": [{"port": 80, "name": "http", "targetPort": "x"}]},
    }));
    let Object::Service(service) = object else { panic!() };
    assert_eq!((service.cluster_ips.len(), service.affinity_seconds), (2, Some(10_800)));
    let (object, _) = self::object::<service::Service>(json!({
        "metadata": {"namespace": "a", "name": "h"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]},
    }));
    let Object::Service(service) = object else { panic!() };
    assert!(service.headless && service.cluster_ips.is_empty());

    let (object, _) = self::object::<endpoint_slice::Slice>(json!({
        "metadata": {"namespace": "a", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "all"}],
        "endpoints": [
            {"addresses": ["10.0.0.2"], "conditions": {}, "nodeName": "n1"},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        ],
    }));
    let Object::EndpointSlice(slice) = object else { panic!() };
    assert_eq!((&*slice.service, slice.ports.len(), slice.endpoints.len()), ("s", 1, 2));
    let states: Vec<_> = slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, true, true)]);
}

#[test]
fn policies_and_identities() {
    let (object, _) = object::<network_policy::Policy>(json!({
        "metadata": {"namespace": "a", "name": "p"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "t", "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Sideways"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [{"port": "http"}, {"protocol": "UDP", "port": 53, "endPort": 60}]}],
        },
    }));
    let Object::NetworkPolicy(policy) = object else { panic!() };
    assert_eq!((policy.pod_selector.requirements.len(), policy.policy_types.as_ref().unwrap().len()), (2, 2));
    let ports = &policy.ingress[0].ports;
    assert_eq!((&ports[0].port, ports[1].end_port), (&Some(PortRef::Name("http".into())), Some(60)));
    assert_eq!(policy.ingress[0].peers[0].ip_block.as_ref().unwrap().except.len(), 1);

    let (object, _) = self::object::<cilium_identity::Identity>(json!({
        "metadata": {"name": "1234"}, "security-labels": {"k8s:app": "db"},
    }));
    let Object::CiliumIdentity(identity) = object else { panic!() };
    assert_eq!((identity.id, identity.labels.get("k8s:app")), (1234, Some("db")));
    let Guarded::Valid(odd) = decode::<cilium_identity::Identity>(json!({"metadata": {"name": "x"}})) else { panic!() };
    assert!(odd.convert(&mut Context::default()).is_none());
}
