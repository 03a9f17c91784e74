use std::time::Duration;

use axoneme_operator::leader::apply_definitions;
use axoneme_operator::status::unimplemented::{CONDITION, REASON, message, unimplemented, withdraw_conditions};
use axoneme_operator::status::{NoticeMetrics, Notices, publish_notices, report_unimplemented};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{api, samples, with_api_server};

#[test]
fn owners_of_objects_that_nothing_is_done_with_are_told() {
    with_api_server(async |client, operator| {
        apply_definitions(&operator).await.unwrap();
        let samples = samples();
        let sample = |kind: &str| samples.iter().find(|object| object.types.as_ref().unwrap().kind == kind).unwrap();
        let make = async |kind: &str| {
            let object = sample(kind);
            api(&client, object).create(&PostParams::default(), object).await.unwrap()
        };

        // One is there before, with a condition of somebody else's; others come later.
        let policy = make("CiliumL2AnnouncementPolicy").await;
        let policies = api(&client, &policy);
        let valid = somebody_elses();
        let patch = Patch::Merge(json!({"status": {"conditions": [valid]}}));
        policies.patch_status(&policy.name_any(), &PatchParams::default(), &patch).await.unwrap();
        let (notices, said) = Notices::channel();
        let publishing = tokio::spawn(publish_notices(operator.clone(), said, NoticeMetrics::default()));
        let reporting = tokio::spawn(report_unimplemented(operator.clone(), operator.clone(), notices));
        let pool = make("CiliumLoadBalancerIPPool").await;
        let gateway = make("CiliumEgressGatewayPolicy").await;
        let working = make("CiliumPodIPPool").await;

        for object in [&policy, &pool] {
            let conditions = until("a condition", async || {
                let found = api(&client, object).get(&object.name_any()).await.unwrap();
                conditions(&found).into_iter().find(|condition| condition["type"] == CONDITION)
            });
            let condition = conditions.await;
            assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!(REASON)));
            assert_eq!(condition["message"], message(&object.types.as_ref().unwrap().kind));
        }
        let found = policies.get(&policy.name_any()).await.unwrap();
        assert!(conditions(&found).contains(&valid), "somebody else's condition stays: {:?}", conditions(&found));

        for object in [&policy, &pool, &gateway] {
            let event = until("an event", async || event(&client, object).await).await;
            assert_eq!(event.reason.as_deref(), Some(REASON));
            assert_eq!(event.note, Some(message(&object.types.as_ref().unwrap().kind)));
        }
        assert!(event(&client, &working).await.is_none(), "a kind that works");

        // What was written is no news to its writer: it would be told of before the next one.
        let next = make("CiliumGatewayClassConfig").await;
        until("the next one's condition", async || {
            let found = api(&client, &next).get(&next.name_any()).await.unwrap();
            conditions(&found).into_iter().find(|condition| condition["type"] == CONDITION)
        })
        .await;
        let last = policies.get(&policy.name_any()).await.unwrap();
        assert_eq!(last.resource_version(), found.resource_version());
        reporting.abort();
        publishing.abort();
    });
}

#[test]
fn what_was_said_of_objects_of_a_kind_that_works_now_is_taken_back() {
    with_api_server(async |client, operator| {
        apply_definitions(&operator).await.unwrap();
        let samples = samples();
        let of_kind = |object: &&DynamicObject| object.types.as_ref().unwrap().kind == "CiliumL2AnnouncementPolicy";
        let sample = samples.iter().find(of_kind).unwrap();
        let policies = api(&client, sample);
        for name in ["one", "two"] {
            let mut policy = sample.clone();
            policy.metadata.name = Some(name.to_owned());
            policies.create(&PostParams::default(), &policy).await.unwrap();
        }
        let valid = somebody_elses();
        let patch = Patch::Merge(json!({"status": {"conditions": [valid]}}));
        policies.patch_status("one", &PatchParams::default(), &patch).await.unwrap();

        // What an earlier release has said.
        let reporting = tokio::spawn(report_unimplemented(operator.clone(), operator.clone(), Notices::channel().0));
        for name in ["one", "two"] {
            until("a condition", async || {
                let found = conditions(&policies.get(name).await.unwrap());
                found.into_iter().find(|condition| condition["type"] == CONDITION)
            })
            .await;
        }
        reporting.abort();

        // The kind works now.
        let kinds: Vec<_> =
            unimplemented().into_iter().filter(|kind| kind.resource.kind == "CiliumL2AnnouncementPolicy").collect();
        withdraw_conditions(&operator, &kinds).await;
        assert_eq!(conditions(&policies.get("one").await.unwrap()), [valid], "somebody else's stays");
        let two = policies.get("two").await.unwrap();
        assert_eq!(conditions(&two), [] as [Value; 0]);
        withdraw_conditions(&operator, &kinds).await;
        let again = policies.get("two").await.unwrap();
        assert_eq!(again.resource_version(), two.resource_version(), "nothing is written where nothing is said");
    });
}

fn somebody_elses() -> Value {
    let (since, reason) = ("2026-11-21T00:00:00Z", "Fine");
    json!({"type": "Valid", "status": "True", "lastTransitionTime": since, "reason": reason, "message": ""})
}

fn conditions(object: &DynamicObject) -> Vec<Value> {
    object.data["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

async fn event(client: &Client, about: &DynamicObject) -> Option<Event> {
    let events = Api::<Event>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let about = about.uid();
    events.into_iter().find(|event| event.regarding.as_ref().and_then(|regarding| regarding.uid.clone()) == about)
}

/// What comes in time.
async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
