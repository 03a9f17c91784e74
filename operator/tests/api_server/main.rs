//! The operator's words with a real API server: definitions, and objects that nothing is done with yet.
//!
//! `cargo test -p axoneme-operator --test api_server` starts an API server of its own for each test.

#![allow(clippy::unwrap_used)] // helpers of tests

mod definitions;
mod unimplemented;

use std::fs;
use std::path::Path;

use axoneme_e2e::api_server::ApiServer;
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde::Deserialize;

/// Runs `test` with a client that may do everything on an API server of its own.
fn with_api_server(test: impl AsyncFnOnce(Client)) {
    let server = ApiServer::start().unwrap();
    rustls::crypto::ring::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        test(Client::try_from(config).unwrap()).await;
    });
}

/// Objects of every kind, as they stand in `crds/tests/samples/`.
fn samples() -> Vec<DynamicObject> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/tests/samples");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut samples = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let mut object = DynamicObject::deserialize(document).unwrap();
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
