//! Operators: two of them, none of them, and somebody else's.

use std::net::IpAddr;
use std::time::Duration;

use axoneme_e2e::reach::{self, Conversation};
use axoneme_e2e::workload::condition;
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, within};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-system/deployments/axoneme-operator";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const PODS: &str = "/api/v1/namespaces/kube-system/pods";

/// Cilium's own operator holds this one.
const RIVAL: &str = "cilium-operator-resource-lock";

fn operators(lab: &Lab) -> Vec<Value> {
    lab.api.list(&format!("{PODS}?labelSelector=app.kubernetes.io/name%3Daxoneme-operator")).unwrap()
}

fn ready(lab: &Lab) -> usize {
    operators(lab)
        .iter()
        .filter(|pod| condition(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null())
        .count()
}

/// The pod that holds the Lease; none while nobody does.
fn leader(lab: &Lab) -> Option<String> {
    let lease = lab.api.find(&format!("{LEASES}/axoneme-operator")).unwrap()?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    holder.rsplit_once('_').map(|(pod, _)| pod.to_owned())
}

fn scale(lab: &Lab, replicas: u32) {
    lab.api.patch(DEPLOYMENT, &json!({"spec": {"replicas": replicas}})).unwrap();
}

fn restore(lab: &Lab) {
    scale(lab, 2);
    within(Duration::from_secs(60), "two operators are ready and one of them leads", || two(lab));
    lab.nodes_follow();
}

fn two(lab: &Lab) -> bool {
    let leader = leader(lab);
    ready(lab) == 2 && operators(lab).iter().any(|pod| pod["metadata"]["name"].as_str() == leader.as_deref())
}

#[test]
fn one_of_two_leads_and_the_other_takes_over_when_it_is_deleted() {
    let lab = Lab::open();
    restore(&lab);
    let first = leader(&lab).expect("somebody leads");
    let names: Vec<_> = operators(&lab).iter().map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.len() == 2 && names.contains(&first), "{first} leads of {names:?}");

    lab.api.delete(&format!("{PODS}/{first}")).unwrap();
    // The one that stood by, or the one that was started in place of the first: whichever looks first.
    let other = || leader(&lab).filter(|name| *name != first);
    within(Duration::from_secs(6), "another one leads", || other().is_some());
    let second = other();
    lab.nodes_follow();
    let workload = lab.workload("two-operators");
    let servers = lab.servers(&workload, &[("one", 0), ("two", 1)]);
    assert!(servers[0].ask(servers[1].http()).reached(), "new pods come and talk");
    within(Duration::from_secs(60), "a new one stands by", || ready(&lab) == 2);
    assert_eq!(leader(&lab), second, "who leads goes on to lead");
}

#[test]
fn an_operator_on_a_node_where_none_was_is_found_before_the_kubelet_tells_of_it() {
    let lab = Lab::open();
    restore(&lab);
    let taken: Vec<Value> = operators(&lab).iter().map(|pod| pod["spec"]["nodeName"].clone()).collect();
    let nodes = lab.cluster.nodes().unwrap().len();
    let other = (0..nodes).map(|n| lab.node(n)).find(|node| !taken.iter().any(|one| one == node.as_str()));
    let other = other.expect("a node without an operator");

    let anywhere = Anywhere { lab: &lab };
    scale(&lab, 0);
    within(Duration::from_secs(60), "no operator is left", || operators(&lab).is_empty());
    place(&lab, &json!(other), 1).unwrap();
    within(Duration::from_secs(60), "one leads there", || {
        let there = |pod: &Value| pod["spec"]["nodeName"] == other.as_str() && condition(pod, "Ready");
        let leader = leader(&lab);
        operators(&lab).iter().any(|pod| there(pod) && pod["metadata"]["name"].as_str() == leader.as_deref())
    });
    lab.nodes_follow();
    let workload = lab.workload("moved-operator");
    let servers = lab.servers(&workload, &[("one", 0), ("two", 1)]);
    assert!(servers[0].ask(servers[1].http()).reached(), "new pods come and talk");
    drop(anywhere);
    restore(&lab);
}

/// Lets operators be on all nodes again.
struct Anywhere<'a> {
    lab: &'a Lab,
}

impl Drop for Anywhere<'_> {
    fn drop(&mut self) {
        let _ = place(self.lab, &Value::Null, 2);
    }
}

/// On this node; null: on any.
fn place(lab: &Lab, node: &Value, replicas: u32) -> anyhow::Result<()> {
    let template = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}});
    lab.api.patch(DEPLOYMENT, &json!({"spec": {"replicas": replicas, "template": template}}))
}

#[test]
fn pods_start_while_no_operator_runs_and_are_adopted_when_one_is_back() {
    let lab = Lab::open();
    let workload = lab.workload("no-operator");
    let old = lab.servers(&workload, &[("old", 1)]).remove(0);
    scale(&lab, 0);
    within(Duration::from_secs(60), "no operator is left", || operators(&lab).is_empty());

    let new = lab.servers(&workload, &[("new", 0)]).remove(0);
    let uid = new.object["metadata"]["uid"].as_str().unwrap().to_owned();
    let node = lab.node(0);
    let ledger = format!("/apis/cilium.io/v2/ciliumnodes/{node}");
    let entry = || lab.api.get(&ledger).unwrap()["spec"]["ipam"]["pool"][new.ip.to_string()].clone();
    assert!(entry().is_null(), "nobody could write {} into the ledger", new.ip);
    let probe = reach::probe(&lab.node_network(0), new.http()).unwrap();
    assert!(probe.reached(), "the kubelet reaches it: {probe:?}");

    restore(&lab);
    eventually("its address is in the ledger", || entry()["resource"] == uid.as_str());
    let endpoint = format!("{}/new", workload.path("cilium.io/v2", "ciliumendpoints"));
    eventually("it has an identity", || {
        lab.api
            .find(&endpoint)
            .unwrap()
            .is_some_and(|e| e["status"]["identity"]["id"].as_u64().is_some_and(|id| id > 255))
    });
    let address = |pod: &Value| pod["status"]["podIP"].as_str().unwrap().parse::<IpAddr>().unwrap();
    let path = format!("{}/new", workload.path("", "pods"));
    assert_eq!(address(&lab.api.get(&path).unwrap()), new.ip, "it keeps its address");
    eventually("it is reached by pods of other nodes", || old.ask(new.http()).reached());
    eventually("it reaches them", || new.ask(old.http()).reached());
}

#[test]
fn it_gives_way_to_another_operator_of_the_same_objects_and_comes_back() {
    let lab = Lab::open();
    restore(&lab);
    let workload = lab.workload("rival");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    workload.friends_policy().unwrap();
    eventually("the policy is in force", || !stranger.ask(server.http()).reached());
    let mut conversation = Conversation::open(&friend.network, server.http()).unwrap();

    let rival = Rival { lab: &lab };
    rival.renew();
    within(Duration::from_secs(40), "no operator is ready", || {
        rival.renew();
        ready(&lab) == 0
    });
    eventually("it is said why", || {
        rival.renew();
        operators(&lab).iter().any(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap();
            lab.events("Pod", name, "OtherOperator").iter().any(|note| note.contains(RIVAL))
        })
    });
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "connections go on");
    assert!(friend.ask(server.http()).reached(), "new connections come about");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds");

    drop(rival);
    within(Duration::from_secs(60), "two operators are ready again and one of them leads", || two(&lab));
    lab.nodes_follow();
    lab.servers(&workload, &[("late", 0)]);
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "connections have gone on");
    assert!(!stranger.ask(server.http()).reached(), "the policy holds");
}

/// Another operator, as far as one sees of it: its Lease, which goes with it.
struct Rival<'a> {
    lab: &'a Lab,
}

impl Rival<'_> {
    fn renew(&self) {
        let now = format!("{:.6}", jiff::Timestamp::now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": RIVAL},
            "spec": {"holderIdentity": "cilium-operator-0", "leaseDurationSeconds": 15, "renewTime": now},
        });
        let path = format!("{LEASES}/{RIVAL}");
        match self.lab.api.find(&path).unwrap() {
            None => self.lab.api.create(LEASES, &lease).map(drop),
            Some(_) => self.lab.api.patch(&path, &lease),
        }
        .unwrap();
    }
}

impl Drop for Rival<'_> {
    fn drop(&mut self) {
        let _ = self.lab.api.delete(&format!("{LEASES}/{RIVAL}"));
    }
}
