use std::time::Instant;

use axoneme_operator::engine::{CaughtUp, Config, Engine, Handle};
use axoneme_operator::leader::apply_definitions;
use axoneme_operator::object::Kind;
use axoneme_operator::watch::{Optional, spawn_all};
use axoneme_proto::nodesync::{Hello, InputVersion};
use axoneme_proto::tables::Settings;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use super::with_api_server;

async fn says(handle: &Handle, known: impl IntoIterator<Item = (Kind, u64)>) -> CaughtUp {
    let input = |(kind, version): (Kind, u64)| InputVersion { kind: kind.to_string(), version };
    handle.catch_up(&Hello { inputs: known.into_iter().map(input).collect(), ..Hello::default() }).await
}

#[test]
fn a_node_that_knows_more_waits_for_the_watch_or_for_a_list() {
    with_api_server(async |admin, _| {
        apply_definitions(&admin).await.unwrap();
        let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
        let (engine, handle, _outputs) = Engine::new(Config::new(settings), [1; 16]);
        tokio::spawn(engine.run());
        let (problems, _problems) = mpsc::unbounded_channel();
        let _watches = spawn_all(&admin, "kube-system", Optional::default(), handle.wanted(), &handle, &problems);
        handle.complete().await.unwrap();

        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "later"}})).unwrap();
        let made = Api::all(admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let version = made.resource_version().unwrap().parse().unwrap();
        assert!(!matches!(says(&handle, [(Kind::Namespace, version)]).await, CaughtUp::Behind(_)));

        // Nothing is so new: the etcd that knew of it was restored. Each kind is listed anew, and that is as good.
        let before = Instant::now();
        let restored = || Kind::ALL.map(|kind| (kind, version + 1_000_000));
        assert_eq!(says(&handle, restored()).await, CaughtUp::Waited);
        assert!(before.elapsed().as_secs() < 10);
        assert_eq!(says(&handle, restored()).await, CaughtUp::AtOnce, "for the next node it is known");
    });
}
