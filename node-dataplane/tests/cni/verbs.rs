//! What each command does, answers and refuses.

use std::time::Duration;

use axoneme_node::desired::pods::PodError;
use axoneme_proto::nodesync::FailureCode;
use serde_json::{Value, json};

use crate::common::{FakePods, Pod, names};
use crate::node::{ToOwnedPair, message, reserve, with_node};

#[test]
fn a_pod_is_attached_checked_and_detached() {
    with_node("a_pod_is_attached_checked_and_detached", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5", "fd00::5"]);
        let added = node.add("c1", &pod, "u1").await.unwrap();
        let device = added["interfaces"][0]["name"].as_str().unwrap().to_owned();
        assert_eq!(added["cniVersion"], "1.0.0");
        assert_eq!(added["interfaces"][1]["name"], "eth0");
        assert_eq!(added["interfaces"][1]["sandbox"], pod.path());
        assert_eq!(added["ips"][0], json!({"interface": 1, "address": "10.0.0.5/32", "gateway": "169.254.1.1"}));
        assert_eq!(added["ips"][1], json!({"interface": 1, "address": "fd00::5/128", "gateway": "fe80::1"}));
        assert_eq!(added["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}));
        assert_eq!(
            node.entries().await,
            [
                format!("10.0.0.5 -> {device}"),
                format!("{device}: identity 1234 policy 3 10.0.0.5"),
                format!("fd00::5 -> {device}")
            ]
        );
        assert_eq!(node.reports.take(), ["attached u1 in c1: 10.0.0.5,fd00::5 id 1 identity 1234"]);

        // The same again is answered the same, and tells nobody.
        assert_eq!(node.add("c1", &pod, "u1").await.unwrap(), added);
        assert_eq!(node.reports.take(), Vec::<String>::new());
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();

        node.address_map.delete_all();
        let broken = node.plugin("CHECK", "c1", &pod.path(), "u1").await;
        let (code, text) = message(&broken);
        assert_eq!(code, 101);
        assert!(text.contains(&format!("map ax_addresses does not lead 10.0.0.5 to {device}")), "{text}");

        node.del("c1", "u1").await.unwrap();
        node.nothing_is_left().await;
        assert_eq!(node.reports.take(), ["detached u1 in c1: 10.0.0.5,fd00::5"]);
        node.del("c1", "u1").await.unwrap();
        assert_eq!(node.reports.take(), Vec::<String>::new());
        let check = node.plugin("CHECK", "c1", &pod.path(), "u1").await;
        assert_eq!(message(&check).0, 101);
    });
}

#[test]
fn every_version_of_the_specification_gets_its_own_result() {
    with_node("every_version_of_the_specification_gets_its_own_result", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let add = async |version: &'static str| node.plugin_with("ADD", "c1", &pod.path(), "u1", version).await;
        for old in ["0.3.1", "0.4.0"] {
            assert_eq!(add(old).await.unwrap()["ips"][0]["version"], "4");
        }
        assert_eq!(add("1.0.0").await.unwrap()["ips"][0].get("version"), None);
        let newest = add("1.1.0").await.unwrap();
        assert_eq!((&newest["interfaces"][1]["mtu"], &newest["routes"][0]["mtu"]), (&json!(1450), &json!(1450)));
        let unknown = add("0.1.0").await;
        assert_eq!(message(&unknown), (1, "cniVersion 0.1.0 is not supported; 0.3.1, 0.4.0, 1.0.0, 1.1.0 are"));
        for (command, version, text) in [
            ("CHECK", "0.3.1", "cniVersion 0.3.1 has no CHECK; 0.4.0 has"),
            ("STATUS", "1.0.0", "cniVersion 1.0.0 has no STATUS; 1.1.0 has"),
            ("GC", "0.4.0", "cniVersion 0.4.0 has no GC; 1.1.0 has"),
        ] {
            let answer = node.plugin_with(command, "c1", &pod.path(), "u1", version).await;
            assert_eq!(message(&answer), (1, text));
        }
        let version = node.plugin_with("VERSION", "", "", "", "1.1.0").await.unwrap();
        assert_eq!(version, json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}));
        assert_eq!(node.plugin_with("STATUS", "", "", "", "1.1.0").await, Ok(Value::Null));
    });
}

#[test]
fn add_waits_for_the_pods_row_and_says_what_it_waits_for() {
    with_node("add_waits_for_the_pods_row_and_says_what_it_waits_for", FakePods::connected, async |node| {
        let pod = Pod::new();
        let late = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        };
        let path = pod.path();
        let (added, ()) = tokio::join!(node.plugin("ADD", "c1", &path, "u1"), late);
        added.unwrap();

        let never = node.add("c2", &Pod::new(), "u2").await;
        assert_eq!(message(&never), (11, "the operator has not told of pod shop/u2 yet (it is connected)"));
        let refused = PodError::Policy {
            namespace: "shop".into(),
            name: "u3".into(),
            identity: 77,
            code: FailureCode::Capacity,
            message: "map ax_policy_rules is full".into(),
        };
        node.pods.fail("u3", refused);
        let policy = node.add("c3", &Pod::new(), "u3").await;
        let (code, text) = message(&policy);
        assert_eq!(code, 11);
        assert!(text.contains("ax_policy_rules is full"), "{text}");
        assert_eq!(names(&node.attachments), ["c1-eth0.json"]);
    });
}

#[test]
fn without_an_operator_addresses_come_from_the_reserve() {
    with_node("without_an_operator_addresses_come_from_the_reserve", reserve, async |mut node| {
        let (one, two, three) = (Pod::new(), Pod::new(), Pod::new());
        let address = |added: Result<Value, Value>| added.unwrap()["ips"][0]["address"].as_str().unwrap().to_owned();
        assert_eq!(address(node.add("c1", &one, "u1").await), "10.0.0.224/32");
        assert_eq!(address(node.add("c2", &two, "u2").await), "10.0.0.225/32");
        assert_eq!(
            node.reports.take(),
            [
                "attached u1 in c1: 10.0.0.224 id 1 identity 5 from reserve",
                "attached u2 in c2: 10.0.0.225 id 2 identity 5 from reserve"
            ]
        );
        let none = node.add("c3", &three, "u3").await;
        let (code, text) = message(&none);
        assert_eq!(code, 11);
        assert!(text.starts_with("this node's reserve of addresses is used up"), "{text}");

        node.restart().await;
        assert_eq!(message(&node.add("c3", &three, "u3").await).0, 11);
        node.del("c1", "u1").await.unwrap();
        assert_eq!(address(node.add("c3", &three, "u3").await), "10.0.0.224/32");
    });
}

#[test]
fn a_sandbox_made_anew_takes_the_address_and_the_old_ones_del_leaves_it() {
    with_node("a_sandbox_made_anew", FakePods::connected, async |node| {
        let (old, new) = (Pod::new(), Pod::new());
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c-old", &old, "u1").await.unwrap();
        let added = node.add("c-new", &new, "u1").await.unwrap();
        let device = added["interfaces"][0]["name"].as_str().unwrap();
        assert!(node.entries().await.contains(&format!("10.0.0.5 -> {device}")));
        node.reports.take();

        node.del("c-old", "u1").await.unwrap();
        assert_eq!(node.reports.take(), Vec::<String>::new());
        assert_eq!(
            node.entries().await,
            [format!("10.0.0.5 -> {device}"), format!("{device}: identity 1234 policy 3 10.0.0.5")]
        );
        node.plugin("CHECK", "c-new", &new.path(), "u1").await.unwrap();
        node.del("c-new", "u1").await.unwrap();
        assert_eq!(node.reports.take(), ["detached u1 in c-new: 10.0.0.5"]);
        node.nothing_is_left().await;
    });
}

#[test]
fn dels_that_come_together_are_each_told_when_their_device_is_gone() {
    with_node("dels_that_come_together", FakePods::connected, async |node| {
        let pods: Vec<(String, Pod)> = (0..12).map(|i| (format!("u{i}"), Pod::new())).collect();
        for (i, (uid, pod)) in pods.iter().enumerate() {
            node.pods.set(uid, 1234, 3, &[&format!("10.0.0.{}", 10 + i)]);
            node.add(&format!("c-{uid}"), pod, uid).await.unwrap();
        }
        let (staying, leaving) = pods.split_first().unwrap();
        let dels = leaving.iter().map(|(uid, pod)| {
            let node = &node;
            async move {
                node.del(&format!("c-{uid}"), uid).await.unwrap();
                assert!(pod.inside(|| nix::net::if_::if_nametoindex("eth0")).is_err());
            }
        });
        futures::future::join_all(dels).await;
        assert_eq!(node.devices().await.len(), 1);
        node.del("c-u0", &staying.0).await.unwrap();
        node.nothing_is_left().await;
    });
}

#[test]
fn without_a_daemon_add_says_so_and_del_is_done_later() {
    with_node("without_a_daemon", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c1", &pod, "u1").await.unwrap();
        node.stop();
        tokio::task::yield_now().await;
        let add = node.add("c2", &Pod::new(), "u2").await;
        let (code, text) = message(&add);
        assert_eq!(code, 11);
        assert!(text.starts_with("axoneme daemon is not running on this node (no answer at "), "{text}");
        assert_eq!(message(&node.plugin_with("STATUS", "", "", "", "1.1.0").await).0, 50);

        // What is attached is detached by the next daemon, before it serves anybody; what is not, already is.
        node.del("c1", "u1").await.unwrap();
        node.del("c1", "u1").await.unwrap();
        node.plugin("DEL", "c9", &pod.path(), "u9").await.unwrap();
        assert_eq!(names(&node.deferred), ["c1-eth0.json"]);
        assert_eq!(node.devices().await.len(), 1);
        node.reports.take();
        node.restart().await;
        assert_eq!(
            node.reports.take(),
            ["attached u1 in c1: 10.0.0.5 id 1 identity 1234", "detached u1 in c1: 10.0.0.5"]
        );
        assert_eq!(names(&node.deferred), Vec::<String>::new());
        node.nothing_is_left().await;

        // Where it cannot be deferred, the runtime has to ask again.
        node.add("c1", &pod, "u1").await.unwrap();
        node.stop();
        tokio::task::yield_now().await;
        std::fs::remove_dir(&node.deferred).unwrap();
        std::fs::write(&node.deferred, "in the way").unwrap();
        assert_eq!(message(&node.del("c1", "u1").await).0, 11);
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    with_node("what_makes_no_sense_is_refused_with_a_reason", FakePods::connected, async |node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.set("u2", 1234, 3, &["10.0.0.6", "10.0.0.7"]);
        node.pods.set("u3", 1234, 3, &[]);
        let pod = Pod::new();
        let cases = [
            (node.plugin("ADD", "../evil", &pod.path(), "u1").await, 4, "CNI_CONTAINERID \"../evil\""),
            (node.plugin("ADD", "c1", "/does/not/exist", "u1").await, 4, "cannot open CNI_NETNS /does/not/exist"),
            (node.plugin("ADD", "c1", "/etc/hostname", "u1").await, 4, "the given file is no network namespace"),
            (node.plugin("ADD", "c1", &Pod::here(), "u1").await, 4, "the given namespace is the host's"),
            (node.plugin("ADD", "c1", &pod.path(), "").await, 4, "CNI_ARGS lacks K8S_POD_UID"),
            (node.plugin("ADD", "c1", &pod.path(), "u2").await, 100, "a pod has at most one address a family"),
            (node.plugin("ADD", "c1", &pod.path(), "u3").await, 11, "pod shop/u3 was given no address"),
            (node.plugin("WHAT", "c1", &pod.path(), "u1").await, 4, "CNI_COMMAND \"WHAT\" is none of"),
        ];
        for (answer, code, text) in cases {
            let (found, message) = message(&answer);
            assert!(found == code && message.contains(text), "{found} {message}, not {code} {text}");
        }
        node.nothing_is_left().await;
    });
}

#[test]
fn status_says_whether_pods_can_be_attached() {
    with_node("status_says_whether_pods_can_be_attached", FakePods::connected, async |node| {
        let status = async || node.plugin_with("STATUS", "", "", "", "1.1.0").await;
        assert_eq!(status().await, Ok(Value::Null));
        node.pods.unready(PodError::Network("no operator was reached yet".into()));
        assert_eq!(message(&status().await), (50, "the node's network is not ready: no operator was reached yet"));
        std::fs::remove_file(node.paths.programs().join("to_pod")).unwrap();
        let (code, text) = message(&status().await).to_owned_pair();
        assert_eq!(code, 51);
        assert!(text.starts_with("the programs of pods are not loaded"), "{text}");
    });
}

#[test]
fn gc_removes_what_the_runtime_does_not_name_and_nothing_else() {
    with_node("gc_removes_what_the_runtime_does_not_name", FakePods::connected, async |node| {
        let pods = node.several(4);
        for (i, pod) in pods.iter().enumerate() {
            // The last one is another network's.
            let network = json!({ "name": if i == 3 { "other" } else { "axoneme" } });
            node.plugin_given("ADD", &format!("c{i}"), &pod.path(), &format!("u{i}"), network).await.unwrap();
        }
        node.reports.take();
        let gc = async |more: Value| node.plugin_given("GC", "", "", "", more).await;
        // A list that is not there names nothing, and so nothing is removed.
        gc(json!({})).await.unwrap();
        assert_eq!(names(&node.attachments).len(), 4);
        let valid = json!([{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c1", "ifname": "eth7"}]);
        gc(json!({ "cni.dev/valid-attachments": valid })).await.unwrap();
        assert_eq!(node.reports.take(), ["detached u1 in c1: 10.0.0.11", "detached u2 in c2: 10.0.0.12"]);
        assert_eq!(names(&node.attachments), ["c0-eth0.json", "c3-eth0.json"]);
        node.plugin("CHECK", "c0", &pods[0].path(), "u0").await.unwrap();
        node.plugin("CHECK", "c3", &pods[3].path(), "u3").await.unwrap();
        gc(json!({ "cni.dev/attachments": [] })).await.unwrap();
        assert_eq!(names(&node.attachments), ["c3-eth0.json"]);
    });
}

#[test]
fn check_compares_with_what_the_runtime_believes() {
    with_node("check_compares_with_what_the_runtime_believes", FakePods::connected, async |node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let mut added = node.add("c1", &pod, "u1").await.unwrap();
        let check = async |previous: &Value| {
            node.plugin_given("CHECK", "c1", &pod.path(), "u1", json!({ "prevResult": previous })).await
        };
        check(&added).await.unwrap();
        added["ips"][0]["address"] = "10.0.0.6/32".into();
        let (code, text) = message(&check(&added).await).to_owned_pair();
        assert_eq!(code, 101);
        assert!(text.contains("10.0.0.6 of prevResult is not the pod's"), "{text}");
    });
}
