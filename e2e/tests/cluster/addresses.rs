//! Addresses: when a node has none left.

use std::time::Duration;

use axoneme_e2e::helm;
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, within};

/// Pods that a CIDR of 16 addresses has room for: without network and broadcast address, the node's own address, and two that
/// the node keeps for when no operator answers.
const ROOM: usize = 11;

/// Gives the lab's cluster back as it was.
struct Restore<'a> {
    lab: &'a Lab,
    small: Option<u8>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.small {
            self.lab.cluster.remove_node(node).expect("the small node is removed");
        }
        helm::change(&self.lab.cluster, &["ipam.operator.clusterPoolIPv4MaskSize=24"])
            .expect("the release is restored");
    }
}

#[test]
fn an_exhausted_pool_is_said_where_users_look_and_stops_nobody_else() {
    let lab = Lab::open();
    let before = lab.cluster.nodes().unwrap();
    let mut restore = Restore { lab: &lab, small: None };
    helm::change(&lab.cluster, &["ipam.operator.clusterPoolIPv4MaskSize=28"]).unwrap();
    lab.nodes_follow();
    lab.cluster.add_nodes(1).unwrap();
    let small = *lab.cluster.nodes().unwrap().iter().find(|n| !before.contains(n)).unwrap();
    restore.small = Some(small);
    lab.cluster.wait_nodes_ready(&lab.api, Duration::from_secs(90)).unwrap();
    let node = lab.cluster.folder.node_name(small);
    let ledger = || lab.api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{node}")).unwrap();
    assert!(ledger()["spec"]["ipam"]["podCIDRs"][0].as_str().unwrap().ends_with("/28"));

    let workload = lab.workload("pool-full");
    workload.deployment("crowd", &node, ROOM as u32, axoneme_e2e::images::PAUSE).unwrap();
    workload.deployment_ready("crowd", ROOM as u32, Duration::from_secs(60)).unwrap();
    lab.start_on(&workload, "late", small);
    let said = |kind, name: &str| lab.events(kind, name, "FailedAddressAllocation");
    eventually("the pod's user is told", || said("Pod", "late").iter().any(|note| note.contains(&node)));
    eventually("the node's owner is told", || !said("CiliumNode", &node).is_empty());

    // Nobody else is concerned: neither pods that have an address nor other nodes.
    let servers = lab.servers(&workload, &[("elsewhere", 0), ("too", 1)]);
    // Their nodes may be on their way to the operator that was just replaced, and assign from the reserve until then.
    eventually("pods of other nodes come and talk", || servers[0].ask(servers[1].http()).reached());
    workload.deployment_ready("crowd", ROOM as u32, Duration::from_secs(5)).unwrap();
    let late = format!("{}/late", workload.path("", "pods"));
    assert!(lab.api.get(&late).unwrap()["status"]["podIP"].is_null(), "there was none left");

    // One goes, and the one that waits has its address.
    let scale = format!("{}/crowd", workload.path("apps/v1", "deployments"));
    lab.api.patch(&scale, &json!({"spec": {"replicas": ROOM - 1}})).unwrap();
    within(Duration::from_secs(60), "the pod has got the address that was given back", || {
        lab.api.get(&late).unwrap()["status"]["podIP"] != Value::Null
    });
    let late = lab.server(&workload, "late");
    assert!(servers[0].ask(late.http()).reached(), "it is reached");
}
