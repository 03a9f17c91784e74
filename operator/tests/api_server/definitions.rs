use axoneme_crds::SCHEMA_VERSION_LABEL;
use axoneme_operator::leader::apply_definitions;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::{api, samples, with_api_server};

#[test]
fn every_kind_is_served_and_its_objects_are_stored_as_they_were_sent() {
    with_api_server(async |client, operator| {
        apply_definitions(&operator).await.unwrap();
        for definition in Api::<CustomResourceDefinition>::all(client.clone()).list(&Default::default()).await.unwrap()
        {
            for condition in definition.status.iter().flat_map(|status| status.conditions.iter().flatten()) {
                let good = matches!(condition.type_.as_str(), "Established" | "NamesAccepted");
                assert_eq!(condition.status == "True", good, "{}: {condition:?}", definition.name_any());
            }
        }
        for object in samples() {
            let kind = object.types.as_ref().unwrap().kind.clone();
            if let Some(namespace) = &object.metadata.namespace {
                make_namespace(&client, namespace).await;
            }
            let mut sent = object.data.clone();
            let stored = api(&client, &object).create(&PostParams::default(), &object).await;
            let stored = stored.unwrap_or_else(|error| panic!("{kind} {}: {error}", object.name_any())).data;
            if stored.get("status").is_none() {
                // It has a subresource of its own.
                sent.as_object_mut().unwrap().remove("status");
            }
            assert_eq!(stored, sent, "{kind} {}", object.name_any());
            api(&client, &object).delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
        }
    });
}

#[test]
fn what_cilium_refuses_is_refused() {
    with_api_server(async |client, operator| {
        apply_definitions(&operator).await.unwrap();
        let samples = samples();
        let sample = |kind: &str| {
            let mut object = samples.iter().find(|object| object.types.as_ref().unwrap().kind == kind).unwrap().clone();
            object.metadata.namespace = object.metadata.namespace.map(|_| "default".to_owned());
            object
        };
        let refused: [(&str, &str, Value, &str); 7] = [
            ("CiliumNetworkPolicy", "/specs", Value::Null, "a policy needs a rule, in spec or in specs"),
            (
                "CiliumNetworkPolicy",
                "/specs/0/nodeSelector",
                json!({}),
                "must validate one and only one schema (oneOf)",
            ),
            ("CiliumNetworkPolicy", "/specs/0/egress/0/toRequires", json!(["a"]), "must have at most 0 items"),
            ("CiliumCIDRGroup", "/spec/externalCIDRs/0", json!("192.0.2.0/33"), "externalCIDRs"),
            ("CiliumEgressGatewayPolicy", "/spec/egressGateway/egressIP", json!("gateway"), "is no IP address"),
            ("CiliumBGPPeerConfig", "/spec/timers/keepAliveTimeSeconds", json!(91), "is longer than holdTimeSeconds"),
            ("CiliumLoadBalancerIPPool", "/spec/allowFirstLastIPs", json!("Maybe"), "Unsupported value"),
        ];
        for (kind, at, value, expected) in refused {
            let mut object = sample(kind);
            set(&mut object, at, value);
            let error = api(&client, &object).create(&PostParams::default(), &object).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{kind}{at}: {error}");
        }
        let pool = sample("CiliumPodIPPool");
        let pools = api(&client, &pool);
        pools.create(&PostParams::default(), &pool).await.unwrap();
        let patch = Patch::Merge(json!({"spec": {"ipv4": {"maskSize": 26}}}));
        let error = pools.patch(&pool.name_any(), &PatchParams::default(), &patch).await.unwrap_err();
        assert!(error.to_string().contains("cannot be changed"), "{error}");
    });
}

#[test]
fn definitions_are_replaced_only_upward() {
    with_api_server(async |client, operator| {
        apply_definitions(&operator).await.unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = "ciliumcidrgroups.cilium.io";
        let applied = definitions.get(name).await.unwrap();
        let own = axoneme_crds::schema_version();

        apply_definitions(&operator).await.unwrap();
        let version = |crd: &CustomResourceDefinition| crd.resource_version().unwrap();
        assert_eq!(version(&definitions.get(name).await.unwrap()), version(&applied), "written although it was there");

        // What others did stays; a short name that this release does not have goes, unless the schema is a newer one.
        for (label, replaced) in
            [(Some("1.33.9"), true), (Some("none"), true), (None, true), (Some("99.0.0"), false), (Some(own), false)]
        {
            let change = json!({
                "metadata": {"labels": {SCHEMA_VERSION_LABEL: label, "team": "net"}},
                "spec": {"names": {"shortNames": ["ccg", "other"]}},
            });
            let changed = definitions.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
            apply_definitions(&operator).await.unwrap();
            let found = definitions.get(name).await.unwrap();
            assert_eq!(found.labels()["team"], "net");
            if replaced {
                assert_eq!(found.labels()[SCHEMA_VERSION_LABEL], own, "{label:?}");
                assert_eq!(found.spec, applied.spec, "{label:?}");
                assert_eq!(found.uid(), applied.uid(), "never deleted");
            } else {
                assert_eq!((found.labels(), &found.spec), (changed.labels(), &changed.spec), "{label:?}");
            }
        }
    });
}

async fn make_namespace(client: &Client, name: &str) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("namespace {name}: {error}"),
    }
}

/// Puts a value where the pointer says; null takes away what is there.
fn set(object: &mut DynamicObject, at: &str, value: Value) {
    let (parent, field) = at.rsplit_once('/').unwrap();
    let parent = object.data.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Array(items), value) => items[field.parse::<usize>().unwrap()] = value,
        (Value::Object(fields), Value::Null) => drop(fields.remove(field)),
        (parent, value) => parent[field] = value,
    }
}
