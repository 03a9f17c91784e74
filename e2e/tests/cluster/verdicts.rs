//! What nodes tell of flows: which rule of which policy decided, and what a policy that only audits would drop.

use std::net::SocketAddr;
use std::time::Duration;

use axoneme_e2e::component::End;
use serde_json::{Value, json};

use crate::command::json;
use crate::lab::{HTTP, Lab, Server, eventually, steadily, within};

const CILIUM: &str = "cilium.io/v2";

/// What was told of flows from one pod to another: outcome, and policy with rule.
pub(crate) fn told(lab: &Lab, from: &Server, to: SocketAddr) -> Vec<(String, String)> {
    let list = json(lab, "policy verdicts --last 4000");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let is = |verdict: &&Value| {
        let (source, destination) = (&verdict["source"], &verdict["destination"]);
        from.ips.iter().any(|ip| source["address"] == ip.to_string())
            && destination["address"] == to.ip().to_string()
            && destination["port"] == to.port()
    };
    let decided = |verdict: &Value| {
        let policy = &verdict["policy"];
        let name = format!("{}:{}/{}", text(&policy["kind"]), text(&policy["namespace"]), text(&policy["name"]));
        (text(&verdict["outcome"]), format!("{name} {}", text(&policy["rule"])))
    };
    list["items"].as_array().unwrap().iter().filter(is).map(decided).collect()
}

pub(crate) fn said(outcome: &str, policy: &str) -> (String, String) {
    (outcome.to_owned(), policy.to_owned())
}

#[test]
fn every_verdict_names_the_policy_and_the_rule_that_decided() {
    let lab = Lab::open();
    let workload = lab.workload("verdicts");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1), ("enemy", 0)]);
    let [server, friend, stranger, enemy] = pods.as_slice() else { panic!("four pods") };
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": HTTP - 80, "endPort": HTTP + 20}]},
        ],
    });
    workload.policy("friends", &spec).unwrap();
    let deny = json!({
        "endpointSelector": {"matchLabels": {"app": "server"}},
        "enableDefaultDeny": {"ingress": false},
        "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"k8s:app": "enemy"}}]}],
        "log": {"value": "team a"},
    });
    let object =
        json!({"apiVersion": CILIUM, "kind": "CiliumNetworkPolicy", "metadata": {"name": "no-enemies"}, "spec": deny});
    lab.api.create(&workload.path(CILIUM, "ciliumnetworkpolicies"), &object).unwrap();

    let (default, denied) = (
        said("dropped", "networkpolicy:verdicts/friends -"),
        said("dropped", "ciliumnetworkpolicy:verdicts/no-enemies spec.ingressDeny[0]"),
    );
    eventually("the stranger is kept out by nobody's rule", || {
        !stranger.ask(server.http()).reached() && told(&lab, stranger, server.http()).contains(&default)
    });
    eventually("the enemy is kept out by a rule", || {
        !enemy.ask(server.http()).reached() && told(&lab, enemy, server.http()).contains(&denied)
    });
    let allowed = said("allowed", "networkpolicy:verdicts/friends spec.ingress[1]");
    eventually("the friend is let in by a rule about a range of ports", || {
        friend.ask(server.http()).reached() && told(&lab, friend, server.http()).contains(&allowed)
    });
    let list = json(&lab, "policy verdicts verdicts/server --verdict dropped --policy verdicts/no-enemies");
    let verdict = &list["items"][0];
    assert_eq!(verdict["destination"]["pod"], "verdicts/server", "{verdict}");
    assert_eq!(verdict["source"]["pod"], "verdicts/enemy", "{verdict}");
    assert_eq!((&verdict["policy"]["log"], &verdict["direction"]), (&json!("team a"), &json!("ingress")), "{verdict}");
}

#[test]
fn a_policy_that_only_audits_drops_nothing_and_tells_what_it_would_drop() {
    let lab = Lab::open();
    let workload = lab.workload("audited");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    let path = workload.path("networking.k8s.io/v1", "networkpolicies");
    let policy = json!({
        "metadata": {"name": "friends", "annotations": {"policy.axoneme.io/audit": "true"}},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        },
    });
    lab.api.create(&path, &policy).unwrap();
    let audited = said("audited", "networkpolicy:audited/friends -");
    eventually("what would be dropped passes and is told", || {
        assert!(stranger.ask(server.http()).reached(), "nothing is dropped");
        told(&lab, stranger, server.http()).contains(&audited)
    });
    assert!(friend.ask(server.http()).reached());
    assert!(!told(&lab, friend, server.http()).contains(&audited), "what it allows is not told as what it would drop");
    let why = json(&lab, &format!("policy explain --from audited/stranger --to audited/server --port {HTTP}"));
    let ingress = &why["ways"][0]["ingress"];
    assert_eq!(why["allowed"], true, "{why}");
    assert!(ingress["audited"].as_str().unwrap().contains("networkpolicy:audited/friends isolates the pod"), "{why}");

    // It goes on where the daemon and all that it remembers is gone.
    let nodes = lab.cluster.nodes().unwrap();
    let before = lab.cluster.programs("axoneme-node", &nodes).unwrap().len();
    lab.cluster.end_component("axoneme-node", &[], End::Kill).unwrap();
    steadily("nothing is dropped without daemons", || stranger.ask(server.http()).reached());
    within(Duration::from_secs(120), "daemons are back", || {
        lab.cluster.programs("axoneme-node", &nodes).is_ok_and(|now| now.len() >= before)
    });
    within(Duration::from_secs(60), "what would be dropped is told by the new daemon", || {
        assert!(stranger.ask(server.http()).reached(), "nothing is dropped");
        let output = crate::command::run(&lab, "policy verdicts audited --verdict audited -o json");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        // Also what was told while there was none.
        !items.is_empty() && items.iter().all(|verdict| verdict["policy"]["name"] == "friends")
    });

    // Enforced, it does what it told.
    let annotation = json!({"metadata": {"annotations": {"policy.axoneme.io/audit": null}}});
    lab.api.patch(&format!("{path}/friends"), &annotation).unwrap();
    eventually("what would be dropped is dropped", || !stranger.ask(server.http()).reached());
    assert!(friend.ask(server.http()).reached());
}
