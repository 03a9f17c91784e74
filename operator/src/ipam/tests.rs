mod burst;
mod pools;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_crds::v2;
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::plan::{empty, plan};
use super::*;
use crate::compile::pool::split;
use crate::config::ClusterPool;
use crate::engine::{AddressDemand, Adoption, Demands, Families, NodeDemand, Release};
use crate::leader::Tenure;
use crate::object::{CiliumNode, Labels, Name, Node, PoolEntry};
use crate::status::Notices;
use crate::watch::Ledger;

const V4: Families = Families { v4: true, v6: false };

fn node(name: &str, max_pods: u32) -> Arc<Node> {
    Arc::new(Node {
        name: name.into(),
        uid: format!("{name}-uid").into(),
        internal_ips: ["192.0.2.1".parse().unwrap()].into(),
        external_ips: [].into(),
        labels: Labels::default(),
        max_pods,
        pod_cidrs: [].into(),
        resource_version: "1".into(),
    })
}

fn demand(node: &Arc<Node>, ledger: Option<CiliumNode>) -> NodeDemand {
    NodeDemand {
        node: Arc::clone(node),
        cidrs: if ledger.is_none() { V4 } else { Families::default() },
        ledger: ledger.map(Arc::new),
        given: [].into(),
        addresses_differ: false,
        owned: false,
        multi: None,
        assign: vec![],
        adopt: vec![],
        release: vec![],
    }
}

fn pod(number: u8) -> AddressDemand {
    AddressDemand {
        owner: Name::new("a", format!("pod-{number}")),
        resource: resource(number),
        families: V4,
        pools: ["default", "default"].map(Arc::from),
    }
}

fn resource(number: u8) -> Arc<str> {
    format!("uid-{number}").into()
}

fn ledger(node: &Node, cidr: &str) -> CiliumNode {
    CiliumNode { pod_cidrs: [cidr.parse().unwrap()].into(), ..empty(node) }
}

#[derive(Clone, Debug)]
enum Step {
    Assign(Vec<u8>),
    Adopt(u8, u8),
    Release(usize),
    Stale(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pods = || prop::collection::vec(0_u8..40, 1..6);
    let step = prop_oneof![
        4 => pods().prop_map(Step::Assign),
        1 => (0_u8..40, 0_u8..32).prop_map(|(pod, offset)| Step::Adopt(pod, offset)),
        3 => (0_usize..40).prop_map(Step::Release),
        1 => pods().prop_map(Step::Stale),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever is demanded, in whatever order and however stale: nobody loses an address to somebody else, and the operator
    /// gives away nothing outside its part of the CIDR.
    #[test]
    fn no_address_is_given_twice(steps in steps()) {
        let node = node("n1", 12);
        let cidr = "10.0.0.0/27";
        let part = split(&cidr.parse().unwrap(), 12).unwrap().assignable.unwrap();
        let (mut ledger, mut rotation) = (ledger(&node, cidr), Rotation::default());
        let mut adopted = BTreeSet::<IpAddr>::new();
        for step in steps {
            let mut demand = demand(&node, Some(ledger.clone()));
            match &step {
                Step::Assign(pods) | Step::Stale(pods) => demand.assign = pods.iter().map(|p| pod(*p)).collect(),
                Step::Adopt(pod, offset) => {
                    let address = IpAddr::from([10, 0, 0, *offset]);
                    adopted.insert(address);
                    let owner = Name::new("a", format!("pod-{pod}"));
                    demand.adopt = vec![Adoption { address, owner, resource: resource(*pod) }];
                }
                Step::Release(index) => {
                    let found = ledger.pool.iter().nth(*index).map(|(a, e)| (*a, Arc::clone(&e.resource)));
                    demand.release = found.into_iter().map(|(address, resource)| Release { address, resource }).collect();
                }
            }
            let planned = plan(&ledger, &demand, &[], &mut rotation);
            for (address, entry) in &ledger.pool {
                let released = demand.release.iter().any(|release| release.address == *address);
                prop_assert!(released || planned.ledger.pool.get(address) == Some(entry), "{address} was taken away");
            }
            for address in planned.ledger.pool.keys() {
                prop_assert!((part.0..=part.1).contains(address) || adopted.contains(address), "{address} is not ours");
            }
            for short in &planned.short {
                let full = planned.ledger.pool.keys().filter(|a| (part.0..=part.1).contains(*a)).count() == 12;
                prop_assert!(full || matches!(step, Step::Adopt(..)), "{short:?} although there is room");
            }
            // The same demand on the result changes nothing: a stale snapshot is harmless.
            let again = plan(&planned.ledger, &NodeDemand { release: vec![], ..demand }, &[], &mut rotation);
            prop_assert_eq!(&again.ledger, &planned.ledger);
            ledger = planned.ledger;
        }
    }
}

#[test]
fn a_patch_names_only_what_differs() {
    let node = node("n1", 12);
    let mut old = plan(&ledger(&node, "10.0.0.0/27"), &demand(&node, None), &[], &mut Rotation::default()).ledger;
    old.resource_version = "7".into();
    assert_eq!(write::patch(&old, &old), None);
    let entry = |text: &str| PoolEntry { owner: format!("a/{text}").into(), resource: text.into() };
    old.pool.insert("10.0.0.2".parse().unwrap(), entry("x"));
    let mut new = old.clone();
    new.pool.remove(&"10.0.0.2".parse::<IpAddr>().unwrap());
    new.pool.insert("10.0.0.3".parse().unwrap(), entry("y"));
    new.pool.insert("fd00::3".parse().unwrap(), entry("y"));
    let expected = json!({
        "metadata": {"resourceVersion": "7"},
        "spec": {"ipam": {
            "pool": {"10.0.0.2": null, "10.0.0.3": {"owner": "a/y", "resource": "y"}},
            "ipv6-pool": {"fd00::3": {"owner": "a/y", "resource": "y"}},
        }},
    });
    assert_eq!(write::patch(&old, &new), Some(expected));
}

/// An API server for ledgers: versions, merge patches, conflicts.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    version: u64,
    failing: u32,
    /// Somebody else writes before this many of the next patches.
    rivals: u32,
}

impl Server {
    fn stamp(&mut self, name: &str) -> Arc<str> {
        self.version += 1;
        let version = self.version.to_string();
        self.objects.get_mut(name).unwrap()["metadata"]["resourceVersion"] = json!(version);
        version.into()
    }

    fn fail(&mut self) -> Result<(), kube::Error> {
        if self.failing == 0 {
            return Ok(());
        }
        self.failing -= 1;
        Err(kube::Error::LinesCodecMaxLineLengthExceeded)
    }

    fn slim(&self, name: &str) -> Option<CiliumNode> {
        let object = self.objects.get(name)?;
        Some(serde_json::from_str::<Ledger>(&object.to_string()).unwrap().into())
    }
}

impl Ledgers for Fake {
    async fn list(&self) -> Result<Vec<CiliumNode>, kube::Error> {
        let server = self.0.lock().unwrap();
        Ok(server.objects.keys().filter_map(|name| server.slim(name)).collect())
    }

    async fn get(&self, name: &str) -> Result<Option<CiliumNode>, kube::Error> {
        Ok(self.0.lock().unwrap().slim(name))
    }

    async fn create(&self, ledger: v2::CiliumNode) -> Result<Option<Arc<str>>, kube::Error> {
        let mut server = self.0.lock().unwrap();
        server.fail()?;
        let name = ledger.metadata.name.clone().unwrap();
        if server.objects.contains_key(&name) {
            return Ok(None);
        }
        server.objects.insert(name.clone(), serde_json::to_value(&ledger).unwrap());
        Ok(Some(server.stamp(&name)))
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Option<Arc<str>>, kube::Error> {
        let mut server = self.0.lock().unwrap();
        server.fail()?;
        if server.rivals > 0 {
            server.rivals -= 1;
            server.stamp(name);
        }
        let Some(object) = server.objects.get_mut(name) else { return Ok(None) };
        if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
            return Ok(None);
        }
        merge(object, &patch);
        Ok(Some(server.stamp(name)))
    }

    async fn delete(&self, ledger: &CiliumNode) -> Result<bool, kube::Error> {
        Ok(self.0.lock().unwrap().objects.remove(&*ledger.name).is_some())
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = json!({});
            }
            let object = target.as_object_mut().unwrap();
            for (key, value) in fields {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        value => *target = value.clone(),
    }
}

fn pools(cidr: &str) -> Cidrs {
    Cidrs::new(ClusterPool { ipv4_cidrs: vec![cidr.parse().unwrap()], ipv4_mask: 27, ..ClusterPool::default() })
}

fn orphans() -> Orphans {
    Orphans::new(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn nodes_and_pods_get_theirs_through_errors_conflicts_and_stale_snapshots() {
    let fake = Fake::default();
    fake.0.lock().unwrap().failing = 2;
    let (notices, mut said) = Notices::channel();
    let (sender, receiver) = watch::channel(Arc::new(Demands::default()));
    let allocator =
        Allocator::new(fake.clone(), pools("10.0.0.0/26"), orphans(), Tenure::fresh(), notices, IpamMetrics::default());
    let task = tokio::spawn(allocator.await.unwrap().run(receiver));
    let nodes = ["n1", "n2", "n3"].map(|name| node(name, 12));
    let settle = async || tokio::time::sleep(Duration::from_secs(2)).await;

    let snapshot =
        |demands: Vec<NodeDemand>| Arc::new(Demands { complete: true, nodes: demands, ..Demands::default() });
    sender.send_replace(snapshot(nodes.iter().map(|node| demand(node, None)).collect()));
    settle().await;
    let cidrs = || -> BTreeMap<String, Vec<IpNet>> {
        let server = fake.0.lock().unwrap();
        server.objects.keys().map(|name| (name.clone(), server.slim(name).unwrap().pod_cidrs.into())).collect()
    };
    let given: BTreeSet<_> = cidrs().into_values().flatten().collect();
    assert_eq!(given, ["10.0.0.0/27", "10.0.0.32/27"].map(|cidr| cidr.parse().unwrap()).into());
    let notice = said.try_recv().unwrap();
    assert!(notice.message.contains("10.0.0.0/26"), "{notice:?}");

    // The same stale demands again, now with pods; somebody else touches the ledger in between.
    fake.0.lock().unwrap().rivals = 2;
    let mut first = demand(&nodes[0], None);
    first.assign = (0..13).map(pod).collect();
    sender.send_replace(snapshot(vec![first.clone()]));
    settle().await;
    let have = fake.0.lock().unwrap().slim("n1").unwrap();
    assert_eq!(have.pool.len(), 12);
    assert_eq!(have.node_uid, None, "Kubernetes shall not delete it");
    let short: Vec<_> = std::iter::from_fn(|| said.try_recv().ok()).map(|notice| notice.message).collect();
    assert!(short.iter().any(|message| message.contains("pool default of node n1")), "{short:?}");

    // One is released: the waiting pod gets an address with the next snapshot, and not the one that was just freed in the same
    // write.
    let (freed, entry) = have.pool.iter().next().map(|(a, e)| (*a, e.clone())).unwrap();
    first.ledger = Some(Arc::new(have));
    first.cidrs = Families::default();
    first.release = vec![Release { address: freed, resource: entry.resource }];
    first.assign = vec![pod(12)];
    sender.send_replace(snapshot(vec![first.clone()]));
    settle().await;
    first.release.clear();
    sender.send_replace(snapshot(vec![first]));
    settle().await;
    let have = fake.0.lock().unwrap().slim("n1").unwrap();
    assert_eq!(have.pool.get(&freed).map(|entry| &*entry.resource), Some("uid-12"));
    drop(sender);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_respects_what_it_reads_before_any_snapshot() {
    let fake = Fake::default();
    let old = node("old", 12);
    let created =
        write::creation(&plan(&ledger(&old, "10.0.0.0/27"), &demand(&old, None), &[], &mut Rotation::default()).ledger);
    fake.create(created).await.unwrap().unwrap();
    let (notices, _said) = Notices::channel();
    let snapshot = Demands { complete: true, nodes: vec![demand(&node("new", 12), None)], ..Demands::default() };
    let (_sender, receiver) = watch::channel(Arc::new(snapshot));
    let allocator =
        Allocator::new(fake.clone(), pools("10.0.0.0/26"), orphans(), Tenure::fresh(), notices, IpamMetrics::default());
    tokio::spawn(allocator.await.unwrap().run(receiver));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = fake.get("new").await.unwrap().unwrap();
    assert_eq!(*new.pod_cidrs, ["10.0.0.32/27".parse::<IpNet>().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_of_a_node_that_is_gone_stays_for_a_while() {
    let fake = Fake::default();
    let gone = node("gone", 12);
    let created = write::creation(
        &plan(&ledger(&gone, "10.0.0.0/27"), &demand(&gone, None), &[], &mut Rotation::default()).ledger,
    );
    fake.create(created).await.unwrap().unwrap();
    let orphan = Arc::new(fake.get("gone").await.unwrap().unwrap());
    let snapshot = Demands { complete: true, orphans: vec![orphan], ..Demands::default() };
    let (_sender, receiver) = watch::channel(Arc::new(snapshot));
    let (notices, _said) = Notices::channel();
    let allocator =
        Allocator::new(fake.clone(), pools("10.0.0.0/26"), orphans(), Tenure::fresh(), notices, IpamMetrics::default());
    tokio::spawn(allocator.await.unwrap().run(receiver));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(fake.get("gone").await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(fake.get("gone").await.unwrap().is_none());
}
