//! Policies of nodes.

use axoneme_proto::nodesync::{Ack, Feature, RowFailure, Table};
use axoneme_proto::tables::{self, PolicyMode};
use prost::Message;
use serde_json::{Value, json};

use super::*;
use crate::compile::policy::{Rows, host_row_id};
use crate::watch;

fn upsert(run: &mut Run, manifest: &Value) {
    run.apply(Input::Upsert(watch::decode(manifest).unwrap().0.unwrap()));
}

fn policy(name: &str, content: Value) -> Value {
    let mut spec = content;
    spec["nodeSelector"] = json!({});
    json!({"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::cluster(Kind::CiliumClusterwideNetworkPolicy, &name.into())
}

/// An engine with two nodes, and these policies of all nodes.
fn with_policies(policies: &[Value]) -> Run {
    let mut run = Run::new(1, IpamMode::ClusterPool);
    for name in ["node-1", "node-2"] {
        let status = json!({"addresses": [{"type": "InternalIP", "address": "172.18.0.1"}]});
        upsert(&mut run, &json!({"kind": "Node", "metadata": {"name": name, "uid": name}, "status": status}));
    }
    policies.iter().for_each(|policy| upsert(&mut run, policy));
    run.synced();
    run.commit();
    run
}

#[test]
fn a_node_must_understand_policies_of_nodes() {
    let run = with_policies(&[policy("a", json!({"ingress": [{"fromEntities": ["world"]}]}))]);
    let rows: Vec<_> = run.journal.rows().filter(|(id, ..)| **id == host_row_id("node-1")).collect();
    let [(_, _, row)] = *rows else { panic!("{rows:?}") };
    assert_eq!(row.features, Feature::HostPolicy as u64 | Feature::Tiers as u64);
    let policy = tables::Policy::decode(row.payload()).unwrap();
    assert_eq!((policy.identity, policy.ingress.unwrap().isolated_by), (1, 2));
    assert_eq!(policy.policies, ["axoneme:emergency", "ciliumclusterwidenetworkpolicy:a"]);
    let by_emergency = policy.rules.iter().filter(|rule| rule.policy == 0).map(|rule| &*rule.field);
    assert_eq!(by_emergency.collect::<Vec<_>>(), ["ssh", "nodesync", "dhcp", "nodesync", "api-server", "dhcp"]);
}

#[test]
fn nodes_of_the_same_policies_share_what_is_compiled() {
    let run = with_policies(&[policy("a", json!({"ingress": [{"fromEntities": ["world"]}]}))]);
    let (index, mut rows) = (run.core.index(), Rows::default());
    let mut row = |node, mode| rows.host_row(index, node, mode);
    let [one, other] = ["node-1", "node-2"].map(|node| row(node, PolicyMode::Default).unwrap());
    assert!(Arc::ptr_eq(&one.shared, &other.shared));
    assert!(row("node-1", PolicyMode::Never).is_none());
    let always = Rows::default().host_row(index, "node-1", PolicyMode::Always).unwrap();
    assert_eq!(always.shared, one.shared, "that is about pods");
    assert!(!always.shared.egress);
}

#[test]
fn a_row_that_a_node_cannot_apply_is_told_of_the_policies_that_made_it() {
    let rule = || json!({"ingress": [{"fromEntities": ["world"]}]});
    let mut run = with_policies(&[policy("a", rule()), policy("b", rule())]);
    let failure = RowFailure { key: Some(host_row_id("node-2").to_key()), ..RowFailure::default() };
    let session = |event| Input::Session { node: "node-2".into(), session: 1, event };
    run.apply(session(SessionEvent::Opened { revision: 0, newest: 0 }));
    run.apply(session(SessionEvent::Acked(Ack { failures: vec![failure.clone()], ..Ack::default() })));
    let Run { core, journal, now, .. } = &mut run;
    let reports = core.commit(*now, |batch| journal.commit(batch)).reports;
    let told = ["a", "b"].map(|name| (Some(key(name)), failure.clone())).to_vec();
    assert_eq!(reports, [Report::Failures("node-2".into(), told)]);
}

#[test]
fn a_pod_that_a_node_treats_worse_than_others_waits_for_it() {
    let mut run = with_policies(&[]);
    upsert(&mut run, &json!({"kind": "Namespace", "metadata": {"name": "red"}}));
    let pod = json!({"name": "web", "namespace": "red", "uid": "u", "labels": {"app": "web"}});
    upsert(&mut run, &json!({"kind": "Pod", "metadata": pod, "spec": {"nodeName": "node-1"}}));
    let owner = PoolEntry { owner: "red/web".into(), resource: "u".into() };
    let ledger = CiliumNode {
        name: "node-1".into(),
        pod_cidrs: ["10.0.1.0/24".parse().unwrap()].into(),
        pool: [(IpAddr::from([10, 0, 1, 2]), owner)].into(),
        ..CiliumNode::default()
    };
    run.apply(Input::Upsert(Object::CiliumNode(Arc::new(ledger))));
    run.commit();
    let labels = Arc::clone(&run.demands.identities[0].labels);
    let (uid, resource_version) = ("u".into(), "1".into());
    let identity = CiliumIdentity { id: 300, labels, uid, resource_version };
    run.apply(Input::Upsert(Object::CiliumIdentity(Arc::new(identity))));
    run.commit();
    let strict = |run: &Run| {
        let mut rows = run.journal.rows().filter(|(id, ..)| id.table == Table::Endpoint);
        tables::Endpoint::decode(rows.next().unwrap().2.payload()).unwrap().strict_barrier
    };
    let granted = |run: &Run| run.journal.grant("node-2").unwrap().contains(&Scope::Peers(300));
    assert_eq!((strict(&run), granted(&run)), (false, false));
    let web = json!([{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]);
    upsert(&mut run, &policy("deny", json!({"ingressDeny": web})));
    run.commit();
    assert_eq!((strict(&run), granted(&run)), (false, true), "what stays open is open to it, too");
    upsert(&mut run, &policy("allow", json!({"ingress": [{"fromEntities": ["cluster"]}]})));
    run.commit();
    assert_eq!((strict(&run), granted(&run)), (true, true));
    run.apply(Input::Delete(key("deny")));
    run.commit();
    assert_eq!((strict(&run), granted(&run)), (false, false));
}
