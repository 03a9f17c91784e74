//! NetworkPolicy, where upstream's suite does not look: connections that exist, and pods' addresses in ipBlock.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use axoneme_e2e::reach::{Conversation, inside};
use serde_json::{Value, json};

use crate::lab::{HTTP, Lab, Server, dropped, eventually, steadily};

const CILIUM: &str = "cilium.io/v2";

#[test]
fn a_policy_opens_for_whom_it_names_and_goes_when_it_is_deleted() {
    let lab = Lab::open();
    let workload = lab.workload("policy-names");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1), ("neighbour", 0)]);
    let [server, friend, stranger, neighbour] = pods.as_slice() else { panic!("four pods") };
    workload.friends_policy().unwrap();
    eventually("the stranger is kept out", || !stranger.ask(server.http()).reached());
    assert!(!neighbour.ask(server.http()).reached(), "a pod on the same node is kept out");
    assert!(friend.ask(server.http()).reached(), "the friend is let in");
    assert!(server.ask(stranger.http()).reached(), "nothing is said of what the server may reach");
    workload.remove_policy("friends").unwrap();
    eventually("all are let in again", || {
        stranger.ask(server.http()).reached() && neighbour.ask(server.http()).reached()
    });
}

#[test]
fn the_node_always_reaches_its_own_pods() {
    let lab = Lab::open();
    let workload = lab.workload("policy-host");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    workload.policy("closed", &json!({"podSelector": {}, "policyTypes": ["Ingress"]})).unwrap();
    eventually("pods are kept out", || !pods[1].ask(pods[0].http()).reached());
    let host = lab.node_network(0);
    steadily("the kubelet's probes arrive", || axoneme_e2e::reach::probe(&host, pods[0].http()).unwrap().reached());
}

#[test]
fn a_connection_ends_when_a_policy_forbids_it() {
    let lab = Lab::open();
    let workload = lab.workload("policy-cut");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    let mut conversation = Conversation::open(&pods[1].network, pods[0].http()).unwrap();
    assert!(conversation.ask(Duration::from_secs(2)).is_ok());
    let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]});
    workload.policy("closed", &spec).unwrap();
    eventually("the connection is silent", || conversation.ask(Duration::from_millis(500)).is_err());
}

#[test]
fn a_block_of_addresses_holds_for_pods_too() {
    let lab = Lab::open();
    let workload = lab.workload("policy-block");
    let pods = lab.servers(&workload, &[("server", 0), ("inside", 1), ("excepted", 1)]);
    let [server, inside, excepted] = pods.as_slice() else { panic!("three pods") };
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [format!("{}/32", excepted.ip)]}}]}],
    });
    workload.policy("block", &spec).unwrap();
    eventually("the excepted address is kept out", || !excepted.ask(server.http()).reached());
    assert!(inside.ask(server.http()).reached(), "the block lets pods in");
}

#[test]
fn a_new_pod_is_known_to_its_peers_before_its_first_packet() {
    let lab = Lab::open();
    let workload = lab.workload("policy-first");
    let server = lab.servers(&workload, &[("server", 0)]).remove(0);
    let guests = ["g0", "g1", "g2", "g3", "g4"];
    let among = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": guests}]});
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": among}]}],
    });
    workload.policy("guests", &spec).unwrap();
    for (n, name) in guests.into_iter().enumerate() {
        // connect, once, as the first thing that the container does: a dropped packet would be an exit code.
        let target = server.http().to_string();
        workload
            .pod(
                name,
                &lab.node(n),
                &axoneme_e2e::images::agnhost_name(&lab.cluster.paths).unwrap(),
                &["connect", &target, "--timeout=900ms"],
            )
            .unwrap();
    }
    let path = workload.path("", "pods");
    for name in ["g0", "g1", "g2", "g3", "g4"] {
        eventually(&format!("{name} connected at once"), || {
            let pod = lab.api.get(&format!("{path}/{name}")).unwrap();
            let state = &pod["status"]["containerStatuses"][0];
            let code = |s: &Value| s["terminated"]["exitCode"].as_i64();
            let code = code(&state["state"]).or(code(&state["lastState"]));
            assert!(code.is_none_or(|c| c == 0), "{name} was dropped: {state}");
            code == Some(0)
        });
    }
}

#[test]
fn a_deny_wins_over_what_is_allowed_and_the_policys_condition_says_that_it_holds() {
    let lab = Lab::open();
    let workload = lab.workload("policy-cilium");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    let path = workload.path(CILIUM, "ciliumnetworkpolicies");
    let rule = json!({
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": HTTP.to_string(), "protocol": "TCP"}]}]}],
        "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"k8s:app": "stranger"}}]}],
    });
    let kind = "CiliumNetworkPolicy";
    let policy = json!({"apiVersion": CILIUM, "kind": kind, "metadata": {"name": "p"}, "spec": rule});
    lab.api.create(&path, &policy).unwrap();
    eventually("the stranger is kept out", || !stranger.ask(server.http()).reached());
    steadily("the friend is let in", || friend.ask(server.http()).reached());
    let valid = || {
        let found = lab.api.get(&format!("{path}/p")).unwrap();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let valid = conditions.iter().find(|condition| condition["type"] == "Valid");
        valid.map(|valid| (valid["status"] == "True", valid["message"].to_string()))
    };
    eventually("the condition says so", || valid().is_some_and(|(holds, _)| holds));
    let denied = dropped(&lab, 0, "Policy denied by denylist");
    assert!(!stranger.ask(server.http()).reached());
    assert!(dropped(&lab, 0, "Policy denied by denylist") > denied, "counted as what it is");

    // What comes with a later release opens nothing, and is named.
    let http =
        json!([{"ports": [{"port": HTTP.to_string(), "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}]);
    let ingress = json!([{"fromEndpoints": [{}], "toPorts": http}]);
    lab.api.patch(&format!("{path}/p"), &json!({"spec": {"ingress": ingress}})).unwrap();
    eventually("the friend is kept out, too", || !friend.ask(server.http()).reached());
    eventually("the condition names the field", || {
        valid().is_some_and(|(holds, message)| !holds && message.contains("spec.ingress[0].toPorts[0].rules"))
    });
    lab.api.delete(&format!("{path}/p")).unwrap();
    eventually("everybody is let in", || [friend, stranger].iter().all(|pod| pod.ask(server.http()).reached()));
}

#[test]
fn a_clusterwide_policy_lets_pods_of_all_namespaces_send_echoes_and_nothing_else() {
    let lab = Lab::open();
    let workload = lab.workload("policy-echoes");
    let pods = lab.servers(&workload, &[("server", 0), ("client", 1)]);
    let [server, client] = pods.as_slice() else { panic!("two pods") };
    let path = format!("/apis/{CILIUM}/ciliumclusterwidenetworkpolicies");
    let family = |family: &str| json!({"family": family, "type": "EchoRequest"});
    let rule = json!({
        "endpointSelector": {"matchLabels": {"k8s:io.kubernetes.pod.namespace": workload.namespace, "app": "server"}},
        "ingress": [{"fromEntities": ["cluster"], "icmps": [{"fields": [family("IPv4"), family("IPv6")]}]}],
    });
    let policy = Clusterwide(&lab, "policy-echoes");
    let kind = "CiliumClusterwideNetworkPolicy";
    let object = json!({"apiVersion": CILIUM, "kind": kind, "metadata": {"name": policy.1}, "spec": rule});
    lab.api.create(&path, &object).unwrap();
    eventually("connections are refused", || !client.ask(server.http()).reached());
    for target in &server.ips {
        steadily("echoes come back", || ping(client, *target));
    }
    drop(policy);
    eventually("connections come about", || client.ask(server.http()).reached());
}

/// Whether an echo comes back.
fn ping(from: &Server, target: IpAddr) -> bool {
    let target = target.to_string();
    let ping = || Command::new("busybox").args(["ping", "-c", "1", "-W", "1", &target]).output();
    inside(&from.network, ping).unwrap().unwrap().status.success()
}

/// A clusterwide policy goes with its scenario.
struct Clusterwide<'a>(&'a Lab, &'static str);

impl Drop for Clusterwide<'_> {
    fn drop(&mut self) {
        let _ = self.0.api.delete(&format!("/apis/{CILIUM}/ciliumclusterwidenetworkpolicies/{}", self.1));
    }
}
