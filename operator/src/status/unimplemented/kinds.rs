//! Which kinds they are.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;

/// Kinds that something is done with, or that only programs write.
pub(super) const WORKING: [&str; 9] = [
    "CiliumCIDRGroup",
    "CiliumClusterwideNetworkPolicy",
    "CiliumEndpoint",
    "CiliumEndpointSlice",
    "CiliumIdentity",
    "CiliumNetworkPolicy",
    "CiliumNode",
    "CiliumNodeConfig",
    "CiliumPodIPPool",
];

/// A kind of this project, as those ask for it who know it by name only.
#[derive(Clone, Debug)]
pub struct CustomKind {
    /// How the API server is asked for it.
    pub resource: ApiResource,
    /// Whether its objects have conditions.
    pub conditions: bool,
}

/// All that nothing is done with, sorted by name. A kind is one of them until it is known to work.
#[must_use]
pub fn unimplemented() -> Vec<CustomKind> {
    let all = axoneme_crds::all();
    all.iter().filter(|crd| !works(crd)).filter_map(kind).collect()
}

/// Kinds that something is done with and whose objects have conditions, sorted by name: they may say otherwise.
#[must_use]
pub fn working() -> Vec<CustomKind> {
    let all = axoneme_crds::all();
    all.iter().filter(|crd| works(crd)).filter_map(kind).filter(|kind| kind.conditions).collect()
}

fn works(crd: &CustomResourceDefinition) -> bool {
    WORKING.contains(&&*crd.spec.names.kind)
}

fn kind(crd: &CustomResourceDefinition) -> Option<CustomKind> {
    let version = crd.spec.versions.iter().find(|version| version.storage && version.served)?;
    let subresource = version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some());
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let status = schema.properties.as_ref()?.get("status").and_then(|status| status.properties.as_ref());
    let gvk = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
    Some(CustomKind {
        resource: ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural),
        conditions: subresource && status.is_some_and(|fields| fields.contains_key("conditions")),
    })
}
