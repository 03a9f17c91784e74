//! Which kinds they are.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;

/// Kinds that something is done with, or that only programs write.
pub(super) const WORKING: [&str; 6] =
    ["CiliumEndpoint", "CiliumEndpointSlice", "CiliumIdentity", "CiliumNode", "CiliumNodeConfig", "CiliumPodIPPool"];

/// A kind that nothing is done with.
#[derive(Clone, Debug)]
pub struct Unimplemented {
    /// How the API server is asked for it.
    pub resource: ApiResource,
    /// Whether its objects have conditions.
    pub conditions: bool,
}

/// All of them, sorted by name. A kind is one of them until it is known to work.
#[must_use]
pub fn unimplemented() -> Vec<Unimplemented> {
    let all = axoneme_crds::all();
    all.iter().filter(|crd| !WORKING.contains(&&*crd.spec.names.kind)).filter_map(kind).collect()
}

fn kind(crd: &CustomResourceDefinition) -> Option<Unimplemented> {
    let version = crd.spec.versions.iter().find(|version| version.storage && version.served)?;
    let subresource = version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some());
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let status = schema.properties.as_ref()?.get("status").and_then(|status| status.properties.as_ref());
    let gvk = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
    Some(Unimplemented {
        resource: ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural),
        conditions: subresource && status.is_some_and(|fields| fields.contains_key("conditions")),
    })
}
