//! What there is of what policies are about: in a cluster, or in folders of manifests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axoneme_operator::config::ConfigFile;
use axoneme_operator::diff::{NotApplied, Settings, State};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Access, Cluster, PAGE};

/// Group, version, kind and plural.
const KINDS: [(&str, &str, &str, &str); 10] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    ("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies"),
    ("cilium.io", "v2", "CiliumCIDRGroup", "ciliumcidrgroups"),
    ("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
];

/// What is told where policies are about nodes and there are none.
pub const NO_NODES: &str = "there are no nodes: nothing is said of policies of nodes";

/// What there is.
#[derive(Debug)]
pub struct Gathered {
    /// The objects.
    pub state: State,
    /// How the operator reads policies.
    pub settings: Settings,
    /// What could not be understood.
    pub notes: Vec<String>,
}

/// What there is in files and folders, or if none are given in the cluster.
///
/// # Errors
/// When manifests cannot be read, or the API server does not tell what there is.
pub async fn gather(access: &Access, within: &[PathBuf]) -> Result<Gathered> {
    let (mut state, mut notes) = (State::default(), Vec::new());
    let settings = if within.is_empty() {
        let cluster = Cluster::connect(access).await?;
        let config = configuration(&cluster).await?;
        list(&cluster, &config, &mut state, &mut notes).await?;
        settings(&config)
    } else {
        for path in within {
            apply(path, &mut state, &mut notes)?;
        }
        // Nobody says how an operator is configured: who has policies of nodes there means them.
        let mut config = ConfigFile::default();
        config.host_firewall.enabled = true;
        settings(&config)
    };
    Ok(Gathered { state, settings, notes })
}

/// How the operator is configured; as it is by default where nothing is installed.
async fn configuration(cluster: &Cluster) -> Result<ConfigFile> {
    let maps = cluster.own::<k8s_openapi::api::core::v1::ConfigMap>();
    let found = maps.get_opt("axoneme-config").await.context("cannot read the ConfigMap axoneme-config")?;
    let text = found.and_then(|map| map.data?.remove("operator.yaml")).unwrap_or_default();
    Ok(ConfigFile::parse(Path::new("operator.yaml"), &text)?)
}

fn settings(config: &ConfigFile) -> Settings {
    Settings {
        cluster: Arc::from(&*config.cluster.name),
        mode: config.policy_enforcement_mode.into(),
        cidrs_of: config.cidrs_of(),
        host_firewall: config.host_firewall(),
    }
}

/// Lists all of it.
async fn list(cluster: &Cluster, config: &ConfigFile, state: &mut State, notes: &mut Vec<String>) -> Result<()> {
    for (group, version, kind, plural) in KINDS {
        if kind == "ClusterNetworkPolicy" && !config.k8s_cluster_network_policy.enabled {
            continue;
        }
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                // Where a definition is not installed, there are no such objects.
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(error) => return Err(error).with_context(|| format!("cannot list {plural}")),
            };
            for object in page.items {
                let mut manifest = serde_json::to_value(object)?;
                // Items of a list do not say what they are.
                manifest["kind"] = kind.into();
                put(&manifest, state, notes);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
                None => break,
            }
        }
    }
    Ok(())
}

/// Applies all manifests of a file, of a folder and those in it, or (`-`) of standard input.
///
/// # Errors
/// When they cannot be read.
pub fn apply(path: &Path, state: &mut State, notes: &mut Vec<String>) -> Result<()> {
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
            .with_context(|| format!("cannot read {}", path.display()))?;
        entries.sort();
        let manifest = |path: &PathBuf| {
            path.is_dir()
                || path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        };
        return entries.iter().filter(|path| manifest(path)).try_for_each(|path| apply(path, state, notes));
    }
    let text = match path.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(path),
    };
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    for (number, document) in (1..).zip(serde_yaml::Deserializer::from_str(&text)) {
        let value = Value::deserialize(document).with_context(|| format!("{}, document {number}", path.display()))?;
        put(&value, state, notes);
    }
    Ok(())
}

/// Applies a manifest, or all of a list. What says nothing of who reaches whom is left out.
fn put(manifest: &Value, state: &mut State, notes: &mut Vec<String>) {
    if let Some(items) = manifest["items"].as_array() {
        items.iter().for_each(|item| put(item, state, notes));
        return;
    }
    match state.apply(manifest) {
        Ok(()) | Err(NotApplied::Kind(_)) => {}
        Err(problem) => notes.push(problem.to_string()),
    }
}
