//! What attached pods are enforced with, and whom ADD waits for.

use std::net::IpAddr;
use std::time::Duration;

use axoneme_bpf::bandwidth::Bandwidth;
use axoneme_bpf::endpoint::EndpointFlags;
use axoneme_node::desired::pods::Limits;
use axoneme_node::reconcile::ops::{EndpointOps, Enforcement, MapOps};

use crate::common::{FakePods, Pod, ip};
use crate::node::{ToOwnedPair, enforcement, message, with_node};

#[test]
fn a_relabelled_pod_is_enforced_anew_also_after_a_restart() {
    with_node("a_relabelled_pod_is_enforced_anew_also_after_a_restart", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.add("c1", &pod, "u1").await.unwrap();
        node.endpoints().enforce("u1", &enforcement(4321, 9)).unwrap();
        node.endpoints().enforce("unknown", &enforcement(1, 1)).unwrap();
        assert_eq!(
            node.reports.take(),
            ["attached u1 in c1: 10.0.0.5 id 1 identity 1234", "attached u1 in c1: 10.0.0.5 id 1 identity 4321"]
        );
        assert!(node.entries().await.iter().any(|line| line.ends_with("identity 4321 policy 9 10.0.0.5")));
        node.restart().await;
        let attached = node.endpoints().attached();
        assert_eq!(attached.len(), 1);
        assert_eq!(attached[0].enforcement, enforcement(4321, 9));
        assert_eq!(attached[0].addresses, [ip("10.0.0.5") as IpAddr]);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
    });
}

#[test]
fn add_waits_a_moment_for_the_pods_peers_to_be_told() {
    with_node("add_waits_a_moment_for_the_pods_peers_to_be_told", FakePods::connected, async |node| {
        for (i, uid) in ["u1", "u2", "u3"].into_iter().enumerate() {
            node.pods.set(uid, 1234, 3, &[&format!("10.0.0.{}", 5 + i)]);
            node.pods.untold(uid);
        }
        // Told in time, never told, nobody there to tell.
        let pod = Pod::new();
        let late = async {
            tokio::time::sleep(Duration::from_millis(40)).await;
            node.pods.tell("u1");
        };
        let (added, ()) = tokio::join!(node.add("c1", &pod, "u1"), late);
        added.unwrap();
        let (started, pod) = (std::time::Instant::now(), Pod::new());
        node.add("c2", &pod, "u2").await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100));
        node.pods.disconnect();
        node.add("c3", &Pod::new(), "u3").await.unwrap();
        let metrics = node.metrics_text();
        for line in [
            "axoneme_cni_barrier_total{outcome=\"told\"} 1",
            "axoneme_cni_barrier_total{outcome=\"timeout\"} 1",
            "axoneme_cni_barrier_total{outcome=\"disconnected\"} 1",
            "axoneme_cni_barrier_wait_seconds_count 3",
            "axoneme_cni_add_seconds_count{barrier=\"excluded\"} 3",
            "axoneme_cni_datapath_seconds_count 3",
            "cilium_api_process_time_seconds_count{path=\"/v1/endpoint\",method=\"PUT\",return_code=\"201\"} 3",
        ] {
            assert!(metrics.lines().any(|have| have == line), "{line} is not in {metrics}");
        }
    });
}

#[test]
fn a_pod_that_a_policy_denies_somewhere_is_not_attached_before_its_peers_are_told() {
    with_node("a_pod_that_a_policy_denies_somewhere", FakePods::connected, async |node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.change("u1", |spec| spec.strict_barrier = true);
        node.pods.untold("u1");
        let pod = Pod::new();
        let (code, text) = message(&node.add("c1", &pod, "u1").await).to_owned_pair();
        assert_eq!(code, 11);
        assert!(text.starts_with("the peers of pod shop/u1 are not told of it yet"), "{text}");
        assert!(text.ends_with("(nodes that hold it have not answered)"), "{text}");
        node.nothing_is_left().await;
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.pods.tell("u1");
        };
        let (added, ()) = tokio::join!(node.add("c1", &pod, "u1"), later);
        added.unwrap();
        node.del("c1", "u1").await.unwrap();
        node.pods.untold("u1");
        node.pods.disconnect();
        let (code, text) = message(&node.add("c1", &pod, "u1").await).to_owned_pair();
        assert_eq!(code, 11);
        assert!(text.ends_with("(no operator is connected)"), "{text}");
        node.nothing_is_left().await;
    });
}

#[test]
fn limits_are_written_changed_in_place_and_removed() {
    with_node("limits_are_written_changed_in_place_and_removed", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        node.pods.change("u1", |spec| spec.limits = Limits { egress: 1_250_000, ingress: 0 });
        node.add("c1", &pod, "u1").await.unwrap();
        assert_eq!(node.limits(), (EndpointFlags::EGRESS_LIMITED, "egress 1250000 free at 0".to_owned()));

        // The programs keep the time; a limit that stays the same does not take it from them.
        let key = *node.bandwidth_map.entries().keys().next().unwrap();
        let timed = Bandwidth { bytes_per_second: 1_250_000, free_at: 77, ..Bandwidth::default() };
        node.bandwidth_map.clone().update(&key, &timed).unwrap();
        let limited = |egress, ingress| Enforcement { limits: Limits { egress, ingress }, ..enforcement(1234, 3) };
        node.endpoints().enforce("u1", &limited(1_250_000, 500)).unwrap();
        let both = EndpointFlags::EGRESS_LIMITED | EndpointFlags::INGRESS_LIMITED;
        let expected = (both, "egress 1250000 free at 77, ingress 500 free at 0".to_owned());
        assert_eq!(node.limits(), expected);
        node.restart().await;
        assert_eq!(node.limits(), expected);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();

        node.bandwidth_map.delete_all();
        let (code, text) = message(&node.plugin("CHECK", "c1", &pod.path(), "u1").await).to_owned_pair();
        assert_eq!(code, 101);
        assert!(text.contains("map ax_bandwidth has not 1250000 bytes/s"), "{text}");
        node.restart().await;
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
        node.endpoints().enforce("u1", &limited(0, 500)).unwrap();
        assert_eq!(node.limits(), (EndpointFlags::INGRESS_LIMITED, "ingress 500 free at 0".to_owned()));
        node.del("c1", "u1").await.unwrap();
        node.nothing_is_left().await;
    });
}
