//! Full and failing maps, interrupted commands, killed daemons, reboots: nothing is left half done.

use std::time::Duration;

use axoneme_node::endpoint::attachment::{AttachmentKey, PodSandbox};
use axoneme_node::endpoint::{AddRequest, Phase};
use tokio::time::timeout;

use crate::common::{FakePods, Pod, names};
use crate::node::{edit, message, rewrite, with_node};

#[test]
fn a_full_map_undoes_the_add_and_is_worth_a_retry() {
    with_node("a_full_map_undoes_the_add_and_is_worth_a_retry", FakePods::connected, async |node| {
        let pods = node.several(17);
        node.add_each(&pods[..16]).await;
        let full = node.add("c16", &pods[16], "u16").await;
        assert_eq!(message(&full), (11, "map ax_endpoints is full at 16 entries"));
        assert_eq!((node.devices().await.len(), names(&node.attachments).len()), (16, 16));
        node.del("c3", "u3").await.unwrap();
        node.add("c16", &pods[16], "u16").await.unwrap();
    });
}

#[test]
fn with_faulty_maps_retries_end_where_they_would_without() {
    with_node("with_faulty_maps_retries_end_where_they_would_without", FakePods::connected, async |mut node| {
        node.faults = 30;
        node.restart().await;
        let retry = async |command: &str, container: &str, netns: &str, uid: &str| {
            for _ in 0..50 {
                if node.plugin(command, container, netns, uid).await.is_ok() {
                    return;
                }
            }
            panic!("{command} of {container} never succeeded");
        };
        let pods = node.several(5);
        for (i, pod) in pods.iter().enumerate() {
            retry("ADD", &format!("c{i}"), &pod.path(), &format!("u{i}")).await;
        }
        assert_eq!((node.devices().await.len(), node.entries().await.len()), (5, 10));
        for i in 0..5 {
            retry("DEL", &format!("c{i}"), "", &format!("u{i}")).await;
        }
        node.nothing_is_left().await;
    });
}

#[test]
fn a_daemon_that_comes_back_finishes_what_it_was_at() {
    with_node("a_daemon_that_comes_back_finishes_what_it_was_at", FakePods::connected, async |mut node| {
        let pods = node.several(4);
        node.add_each(&pods).await;
        let entries = node.entries().await;
        node.reports.take();
        node.stop();
        // c1 was in the middle of ADD, c2 in the middle of DEL; of c3's file only half was written.
        rewrite(&node.attachments, "c1", Phase::Attaching);
        rewrite(&node.attachments, "c2", Phase::Detaching);
        std::fs::write(node.attachments.join("c3-eth0.json"), "{\"containerId\":").unwrap();
        std::fs::write(node.attachments.join("c4-eth0.new"), "{").unwrap();
        // Somebody also emptied a map.
        node.address_map.delete_all();

        let restored = node.restart().await;
        assert_eq!((restored.adopted, restored.removed, restored.failed, restored.dead), (1, 2, 0, 0));
        assert_eq!(
            node.reports.take(),
            ["attached u0 in c0: 10.0.0.10 id 1 identity 1", "detached u2 in c2: 10.0.0.12"]
        );
        // What has no attachment stays until the desired state is complete.
        assert_eq!(node.devices().await.len(), 2);
        assert_eq!(node.endpoints().prune().await.unwrap(), 2);
        let kept: Vec<_> = entries.iter().filter(|line| line.contains("10.0.0.10")).cloned().collect();
        assert_eq!(node.entries().await, kept);
        assert_eq!(names(&node.attachments), ["c0-eth0.json", "c3-eth0.broken"]);

        // The runtime tries again.
        node.add("c1", &pods[1], "u1").await.unwrap();
        node.plugin("CHECK", "c0", &pods[0].path(), "u0").await.unwrap();
        node.plugin("CHECK", "c1", &pods[1].path(), "u1").await.unwrap();
    });
}

/// ADD and DEL are dropped after ever longer times, wherever they are by then, and the daemon starts anew.
#[test]
fn killed_at_any_moment_the_next_start_finds_what_was_begun() {
    with_node("killed_at_any_moment_the_next_start_finds_what_was_begun", FakePods::connected, async |mut node| {
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let key = AttachmentKey { container_id: "c1".into(), interface: "eth0".into() };
        let add = AddRequest {
            key: key.clone(),
            pod: PodSandbox { uid: "u1".into(), namespace: "shop".into(), name: "web".into() },
            netns: "test".into(),
            network: "axoneme".into(),
            chained: None,
        };
        let (mut adds, mut dels) = (0, 0);
        for step in 0..40_u64 {
            let (pod, moment) = (Pod::new(), Duration::from_micros(step * step * 10));
            let namespace = pod.namespace();
            let endpoints = node.endpoints().clone();
            adds += u64::from(timeout(moment, endpoints.add(&add, &namespace)).await.is_err());
            node.restart().await;
            if node.endpoints().attachments().is_empty() {
                // A device whose making was under way comes without an intent only if the kernel was quicker than the start.
                node.endpoints().prune().await.unwrap();
                node.nothing_is_left().await;
            }
            let endpoints = node.endpoints().clone();
            endpoints.add(&add, &namespace).await.unwrap();
            endpoints.check(&key, &[], &namespace).await.unwrap();

            dels += u64::from(timeout(moment, endpoints.del(&key)).await.is_err());
            node.restart().await;
            node.endpoints().del(&key).await.unwrap();
            node.nothing_is_left().await;
        }
        assert!(adds > 5 && dels > 5, "only {adds} ADDs and {dels} DELs were interrupted");
    });
}

#[test]
fn an_interrupted_add_is_cleaned_up_by_the_next_one() {
    with_node("an_interrupted_add_is_cleaned_up_by_the_next_one", FakePods::connected, async |mut node| {
        let pod = Pod::new();
        node.pods.set("u1", 1234, 3, &["10.0.0.5"]);
        let first = node.add("c1", &pod, "u1").await.unwrap();
        // Everything is there but the last word on disk; this daemon has not looked at its disk since.
        node.stop();
        std::fs::remove_file(node.attachments.join("c1-eth0.json")).unwrap();
        node.restart().await;
        assert_eq!(node.add("c1", &pod, "u1").await.unwrap(), first);
        assert_eq!(node.devices().await.len(), 1);
        node.plugin("CHECK", "c1", &pod.path(), "u1").await.unwrap();
    });
}

#[test]
fn after_a_reboot_nothing_is_left_of_what_was_attached_before() {
    with_node("after_a_reboot_nothing_is_left", FakePods::connected, async |mut node| {
        let pods = node.several(2);
        for uid in ["u0", "u1"] {
            node.pods.change(uid, |spec| spec.limits.ingress = 1000);
        }
        node.add_each(&pods).await;
        node.reports.take();
        node.stop();
        // The files say that the kernel was another one. A device and entries that nobody has a file of are left, too.
        for container in ["c0", "c1"] {
            edit(&node.attachments, container, |attachment| attachment["bootId"] = "another".into());
        }
        let restored = node.restart().await;
        assert_eq!((restored.removed, restored.failed), (2, 0));
        assert_eq!(node.reports.take(), ["detached u0 in c0: 10.0.0.10", "detached u1 in c1: 10.0.0.11"]);
        assert_eq!(names(&node.attachments), Vec::<String>::new());
        assert_eq!(node.devices().await.len(), 2);
        node.endpoints().prune().await.unwrap();
        node.nothing_is_left().await;
        node.add("c0", &pods[0], "u0").await.unwrap();
    });
}
