//! Namespaces: their labels are part of what their pods are.

use std::time::Duration;

use axoneme_e2e::reach::Conversation;
use serde_json::{Value, json};

use crate::lab::{Lab, Server, eventually};

fn identity(lab: &Lab, server: &Server) -> Value {
    let namespace = server.object["metadata"]["namespace"].as_str().unwrap();
    let path = format!("/apis/cilium.io/v2/namespaces/{namespace}/ciliumendpoints/{}", server.name);
    lab.api.get(&path).unwrap()["status"]["identity"]["id"].clone()
}

#[test]
fn pods_of_a_relabelled_namespace_talk_on_and_are_judged_by_its_new_labels() {
    let lab = Lab::open();
    let (served, asking) = (lab.workload("relabel-served"), lab.workload("relabel-asking"));
    let server = lab.servers(&served, &[("server", 0)]).remove(0);
    let clients = lab.servers(&asking, &[("near", 0), ("far", 1)]);
    let from_team = json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "in"}}}]}]);
    served.policy("team", &json!({"podSelector": {}, "ingress": from_team})).unwrap();
    eventually("strangers are kept out", || !clients.iter().any(|client| client.ask(server.http()).reached()));
    let relabel = |labels: Value| {
        let path = format!("/api/v1/namespaces/{}", asking.namespace);
        lab.api.patch(&path, &json!({"metadata": {"labels": labels}})).unwrap();
    };

    relabel(json!({"team": "in"}));
    eventually("the team is let in", || clients.iter().all(|client| client.ask(server.http()).reached()));

    // Each label makes other identities of the clients, to which the same policy opens.
    eventually("endpoints are reported", || clients.iter().all(|client| !identity(&lab, client).is_null()));
    let before: Vec<Value> = clients.iter().map(|client| identity(&lab, client)).collect();
    let mut conversations: Vec<_> =
        clients.iter().map(|client| Conversation::open(&client.network, server.http()).unwrap()).collect();
    for shade in 0..10 {
        relabel(json!({"shade": shade.to_string()}));
        for _ in 0..10 {
            for (client, conversation) in clients.iter().zip(&mut conversations) {
                let answer = conversation.ask(Duration::from_millis(500));
                assert!(answer.is_ok(), "{} is not answered while it changes over: {answer:?}", client.name);
                assert!(client.ask(server.http()).reached(), "{} is kept out while it changes over", client.name);
            }
        }
    }
    eventually("they are others now", || {
        clients.iter().zip(&before).all(|(client, before)| identity(&lab, client) != *before)
    });

    relabel(json!({"team": "out"}));
    eventually("who leaves the team is kept out, and what talked is silent", || {
        !clients.iter().any(|client| client.ask(server.http()).reached())
            && conversations.iter_mut().all(|conversation| conversation.ask(Duration::from_millis(500)).is_err())
    });
}
