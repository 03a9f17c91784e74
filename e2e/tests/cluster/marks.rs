//! Taint and condition by which Kubernetes knows which nodes have a network.

use std::time::Duration;

use axoneme_e2e::process::ProcessId;
use axoneme_e2e::reach::Conversation;
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, within};

const TAINT: &str = "node.cilium.io/agent-not-ready";

/// A daemon that does not answer is not ready after three questions of the kubelet's (each waits for 5 s), and has 10 s then.
const NOTICED: Duration = Duration::from_secs(50);

struct Node<'a> {
    lab: &'a Lab,
    path: String,
}

impl Node<'_> {
    fn get(&self) -> Value {
        self.lab.api.get(&self.path).unwrap()
    }

    fn taints(&self) -> Vec<Value> {
        self.get()["spec"]["taints"].as_array().cloned().unwrap_or_default()
    }

    fn is_tainted(&self) -> bool {
        self.taints().iter().any(|taint| taint["key"] == TAINT)
    }

    fn conditions(&self) -> Vec<Value> {
        self.get()["status"]["conditions"].as_array().cloned().unwrap_or_default()
    }

    fn has_network(&self) -> bool {
        self.conditions().iter().any(|condition| {
            condition["type"] == "NetworkUnavailable"
                && condition["status"] == "False"
                && condition["reason"] == "CiliumIsUp"
        })
    }
}

/// Processes that do nothing until this is dropped.
struct Stopped(Vec<ProcessId>);

impl Stopped {
    fn all(processes: Vec<ProcessId>) -> Self {
        processes.iter().for_each(|process| process.signal(libc::SIGSTOP));
        Self(processes)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.signal(libc::SIGCONT));
    }
}

#[test]
fn a_node_has_the_taint_while_its_daemon_does_not_answer_and_no_longer() {
    let lab = Lab::open();
    let node = Node { lab: &lab, path: format!("/api/v1/nodes/{}", lab.node(2)) };
    eventually("it has a network and no taint", || node.has_network() && !node.is_tainted());

    // As a node comes that was registered with it. Other taints stay.
    let other = json!({"key": "scenario", "value": "marks", "effect": "PreferNoSchedule"});
    let ours = json!({"key": TAINT, "value": "true", "effect": "NoSchedule"});
    let before = node.taints();
    lab.api.patch(&node.path, &json!({"spec": {"taints": [other, ours]}})).unwrap();
    let status = format!("{}/status", node.path);
    let conditions: Vec<Value> =
        node.conditions().into_iter().filter(|condition| condition["type"] != "NetworkUnavailable").collect();
    lab.api.patch(&status, &json!({"status": {"conditions": conditions}})).unwrap();
    let marked = axoneme_e2e::process::wait_until(Duration::from_secs(10), || !node.is_tainted() && node.has_network());
    let kept = node.taints().contains(&other);
    lab.api.patch(&node.path, &json!({"spec": {"taints": before}})).unwrap();
    assert!(marked && kept, "its daemon is ready: marked {marked}, the other taint is kept {kept}");

    let workload = lab.workload("marks");
    let pods = lab.servers(&workload, &[("there", 2), ("here", 0)]);
    let mut conversation = Conversation::open(&pods[1].network, pods[0].http()).unwrap();
    let stopped = Stopped::all(lab.cluster.programs("axoneme-node", &[lab.index(2)]).unwrap());
    assert!(!stopped.0.is_empty(), "a daemon runs there");
    within(NOTICED, "the node is tainted", || node.is_tainted());
    assert!(conversation.ask(Duration::from_secs(2)).is_ok(), "what talked goes on");
    assert!(pods[1].ask(pods[0].http()).reached(), "new connections come about");
    drop(stopped);
    within(Duration::from_secs(20), "the taint goes when the daemon answers", || !node.is_tainted());
}
