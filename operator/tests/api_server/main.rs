//! The operator's words with a real API server: definitions, objects that nothing is done with yet, and how new its watches are.
//!
//! `cargo test -p axoneme-operator --test api_server` starts an API server of its own for each test.

#![allow(clippy::unwrap_used)] // helpers of tests

mod definitions;
mod freshness;
mod unimplemented;

use std::fs;
use std::path::Path;

use axoneme_e2e::api_server::ApiServer;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Runs `test` on an API server of its own, with a client that may do everything and one that may do what the chart lets the
/// operator do.
fn with_api_server(test: impl AsyncFnOnce(Client, Client)) {
    let server = ApiServer::start().unwrap();
    rustls::crypto::ring::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let admin = Client::try_from(config.clone()).unwrap();
        give_rights(&admin).await;
        config.auth_info.impersonate = Some("system:serviceaccount:kube-system:axoneme-operator".into());
        test(admin, Client::try_from(config).unwrap()).await;
    });
}

/// Applies the chart's roles for the whole cluster, as they are rendered from its defaults.
async fn give_rights(admin: &Client) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tests/default.golden.yaml");
    for document in documents(&fs::read_to_string(chart).unwrap()) {
        let created = match document["kind"].as_str() {
            Some("ClusterRole") => create::<ClusterRole>(admin, document).await,
            Some("ClusterRoleBinding") => create::<ClusterRoleBinding>(admin, document).await,
            _ => continue,
        };
        created.unwrap();
    }
}

async fn create<K>(client: &Client, document: Value) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(document).unwrap();
    Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await.map(drop)
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Objects of every kind, as they stand in `crds/tests/samples/`.
fn samples() -> Vec<DynamicObject> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/tests/samples");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut samples = Vec::new();
    for file in files {
        for document in documents(&fs::read_to_string(file).unwrap()) {
            let mut object: DynamicObject = serde_json::from_value(document).unwrap();
            // What an API server has written, it does not take.
            let ObjectMeta { name, namespace, .. } = object.metadata;
            object.metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
            samples.push(object);
        }
    }
    samples
}

/// The objects among which this one is.
fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.as_ref().unwrap();
    let definition = axoneme_crds::all().into_iter().find(|crd| crd.spec.names.kind == types.kind).unwrap();
    let (group, version) = types.api_version.split_once('/').unwrap();
    let gvk = GroupVersionKind::gvk(group, version, &types.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &definition.spec.names.plural);
    match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}
