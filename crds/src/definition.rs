//! The CustomResourceDefinitions, as they are applied.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceSubresourceStatus, CustomResourceSubresources, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};

use crate::{v2, v2alpha1};

/// Label of a definition that says which version of the schemas it is from. Cilium's operators read and write it too.
pub const SCHEMA_VERSION_LABEL: &str = "io.cilium.k8s.crd.schema.version";

/// The version of all definitions here, `major.minor.patch`.
///
/// Whoever applies a definition replaces it only upward, Cilium included. The schemas here are a superset of Cilium's
/// 1.33.9 (its 1.20), so they start above it: installing over Cilium replaces its definitions, and a Cilium of that age,
/// started later, leaves ours alone. Raise the patch for descriptions and columns, the minor for new fields or kinds.
pub fn schema_version() -> &'static str {
    "1.35.0"
}

/// All definitions, in a fixed order.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut identity = v2::CiliumIdentity::crd();
    set_status_subresource(&mut identity, true);
    let mut endpoint = v2::CiliumEndpoint::crd();
    set_status_subresource(&mut endpoint, false);
    let node = v2::CiliumNode::crd();
    let node_config = v2::CiliumNodeConfig::crd();
    let pool = v2alpha1::CiliumPodIPPool::crd();
    [endpoint, identity, node, node_config, pool].into_iter().map(finish).collect()
}

/// Whether a definition of a cluster is to be replaced by the one given here.
///
/// True if there is none yet, if its label is missing or no version, or if that version is lower than [`schema_version`].
pub fn needs_update(existing: Option<&CustomResourceDefinition>) -> bool {
    let found = existing.and_then(|crd| crd.labels().get(SCHEMA_VERSION_LABEL)).and_then(|label| parse_version(label));
    found < parse_version(schema_version())
}

/// A definition as a file.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the file, for instance `ciliumnodes.yaml`.
    pub file: String,
    /// The definition as a YAML document, without a separator.
    pub yaml: String,
}

/// All definitions as the files of `crds/manifests/`.
///
/// # Errors
/// Fails if a definition cannot be written as YAML.
pub fn manifests() -> Result<Vec<Manifest>, serde_yaml::Error> {
    all()
        .iter()
        .map(|crd| Ok(Manifest { file: format!("{}.yaml", crd.spec.names.plural), yaml: serde_yaml::to_string(crd)? }))
        .collect()
}

/// All definitions as one YAML stream, for `kubectl apply --server-side -f -`.
///
/// # Errors
/// Fails if a definition cannot be written as YAML.
pub fn to_yaml() -> Result<String, serde_yaml::Error> {
    Ok(manifests()?.iter().map(|manifest| format!("---\n{}", manifest.yaml)).collect())
}

/// CiliumIdentity has the subresource without a status, CiliumEndpoint a status without the subresource; the derive ties
/// the two together.
fn set_status_subresource(crd: &mut CustomResourceDefinition, wanted: bool) {
    for version in &mut crd.spec.versions {
        version.subresources = wanted.then(|| CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
            ..Default::default()
        });
    }
}

fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.labels_mut().insert(SCHEMA_VERSION_LABEL.to_owned(), schema_version().to_owned());
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            plain(schema);
        }
    }
    crd
}

/// Takes out what Rust's types say and Cilium's schemas do not: null for an absent value (an API server would store it) and
/// formats that Kubernetes does not know (it would warn; their bounds are in `minimum` and `maximum`).
fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| matches!(format, "uint8" | "uint16" | "uint32" | "uint64")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(plain);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => plain(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(plain),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        plain(values);
    }
}

/// Reads `major.minor.patch`, where later parts may be missing.
fn parse_version(text: &str) -> Option<[u64; 3]> {
    let mut version = [0; 3];
    let mut parts = text.trim().split('.');
    for (at, number) in version.iter_mut().enumerate() {
        match parts.next() {
            Some(part) => *number = part.parse().ok()?,
            None if at > 0 => break,
            None => return None,
        }
    }
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(version: Option<&str>) -> CustomResourceDefinition {
        let mut crd = all().remove(0);
        crd.labels_mut().remove(SCHEMA_VERSION_LABEL);
        if let Some(version) = version {
            crd.labels_mut().insert(SCHEMA_VERSION_LABEL.into(), version.into());
        }
        crd
    }

    #[test]
    fn a_definition_is_replaced_only_upward() {
        assert!(needs_update(None), "absent");
        for older in [None, Some("1.33.9"), Some("1.33"), Some("0.99.100"), Some("next")] {
            assert!(needs_update(Some(&labelled(older))), "{older:?}");
        }
        for kept in [schema_version(), "1.35.1", "1.36", "2.0.0"] {
            assert!(!needs_update(Some(&labelled(Some(kept)))), "{kept}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(parse_version("1.9.0") < parse_version("1.10.0"));
        assert_eq!(parse_version("1.2"), Some([1, 2, 0]));
        for bad in ["", "v1.2.3", "1.2.3.4", "1..3", "1.2.3-rc1"] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_own_version_is_one() {
        assert!(parse_version(schema_version()).is_some());
    }
}
