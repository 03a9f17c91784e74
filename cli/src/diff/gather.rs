//! What a cluster has of what policies are about.

use anyhow::{Context, Result};
use axoneme_operator::config::ConfigFile;
use axoneme_operator::diff::State;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};

use crate::cluster::{Cluster, PAGE};

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

/// Lists all of it.
///
/// # Errors
/// When the API server does not tell.
pub async fn cluster(cluster: &Cluster, config: &ConfigFile, state: &mut State, notes: &mut Vec<String>) -> Result<()> {
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
                super::put(&manifest, state, notes);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
                None => break,
            }
        }
    }
    Ok(())
}
