//! The CustomResourceDefinitions, as they are applied.

use std::borrow::Cow;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation,
};
use kube::{CustomResourceExt, ResourceExt};
use schemars::JsonSchema;

use crate::{schema, v2, v2alpha1};

/// Label of a definition that says which version of the schemas it is from. Cilium's operators read and write it too.
pub const SCHEMA_VERSION_LABEL: &str = "io.cilium.k8s.crd.schema.version";

/// The version of all definitions here, `major.minor.patch`.
///
/// Whoever applies a definition replaces it only upward, Cilium included. The schemas here are Cilium's 1.33.9 (its 1.20), and
/// their versions start above it: installing over Cilium replaces its definitions, and a Cilium of that age, started later,
/// leaves ours alone. Raise the patch for descriptions and columns, the minor for anything that an object may say.
pub fn schema_version() -> &'static str {
    "1.36.0"
}

/// All definitions, sorted by name.
pub fn all() -> Vec<CustomResourceDefinition> {
    let definitions = [
        Definition::of::<v2::CiliumBGPAdvertisement>().and::<v2alpha1::CiliumBGPAdvertisement>(),
        Definition::of::<v2::CiliumBGPClusterConfig>().and::<v2alpha1::CiliumBGPClusterConfig>(),
        Definition::of::<v2::CiliumBGPNodeConfigOverride>().also_deprecated("v2alpha1"),
        Definition::of::<v2::CiliumBGPNodeConfig>().and::<v2alpha1::CiliumBGPNodeConfig>(),
        Definition::of::<v2::CiliumBGPPeerConfig>().and::<v2alpha1::CiliumBGPPeerConfig>(),
        Definition::of::<v2::CiliumCIDRGroup>().also_deprecated("v2alpha1").metadata_optional(),
        Definition::of::<v2::CiliumClusterwideEnvoyConfig>(),
        Definition::of::<v2::CiliumClusterwideNetworkPolicy>(),
        Definition::of::<v2alpha1::CiliumDatapathPlugin>().metadata_optional(),
        Definition::of::<v2::CiliumEgressGatewayPolicy>(),
        Definition::of::<v2::CiliumEndpoint>().status_subresource(false),
        Definition::of::<v2alpha1::CiliumEndpointSlice>(),
        Definition::of::<v2::CiliumEnvoyConfig>(),
        Definition::of::<v2alpha1::CiliumGatewayClassConfig>(),
        Definition::of::<v2::CiliumIdentity>().status_subresource(true),
        Definition::of::<v2alpha1::CiliumL2AnnouncementPolicy>(),
        Definition::of::<v2::CiliumLoadBalancerIPPool>().also_deprecated("v2alpha1"),
        Definition::of::<v2::CiliumLocalRedirectPolicy>().status_subresource(false),
        Definition::of::<v2::CiliumNetworkPolicy>(),
        Definition::of::<v2::CiliumNodeConfig>().metadata_optional(),
        Definition::of::<v2::CiliumNode>(),
        Definition::of::<v2::CiliumPodIPPool>().and::<v2alpha1::CiliumPodIPPool>().metadata_optional(),
    ];
    let mut all: Vec<_> = definitions.into_iter().map(Definition::finish).collect();
    all.sort_by_cached_key(ResourceExt::name_any);
    all
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
    all().iter().map(|crd| Ok(Manifest { file: format!("{}.yaml", crd.spec.names.plural), yaml: yaml(crd)? })).collect()
}

/// A definition as a YAML document, for kubectl too.
///
/// # Errors
/// Fails if it cannot be written as YAML.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let plain = serde_yaml::to_string(crd)?;
    Ok(plain.lines().map(|line| format!("{}\n", quoted(line))).collect())
}

/// kubectl reads YAML 1.1, where `No` is false: a list's or a field's text that is such a word gets quotes.
fn quoted(line: &str) -> Cow<'_, str> {
    const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    let at = line.rfind(' ').map_or(0, |at| at + 1);
    let (before, word) = line.split_at(at);
    let lone = before.trim_start() == "- " || before.ends_with(": ");
    if lone && WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        format!("{before}'{word}'").into()
    } else {
        line.into()
    }
}

/// All definitions as one YAML stream, for `kubectl apply --server-side -f -`.
///
/// # Errors
/// Fails if a definition cannot be written as YAML.
pub fn to_yaml() -> Result<String, serde_yaml::Error> {
    Ok(manifests()?.iter().map(|manifest| format!("---\n{}", manifest.yaml)).collect())
}

/// A definition in the making. What a derive cannot say of a kind is said here.
struct Definition(CustomResourceDefinition);

impl Definition {
    /// The definition of a kind, from the type of its newest version.
    fn of<K: CustomResourceExt + JsonSchema>() -> Self {
        let mut crd = K::crd();
        for version in &mut crd.spec.versions {
            version.schema = Some(CustomResourceValidation { open_api_v3_schema: Some(schema::of::<K>()) });
        }
        Self(crd)
    }

    /// A further version, with a type of its own.
    fn and<K: CustomResourceExt + JsonSchema>(mut self) -> Self {
        self.0.spec.versions.append(&mut Self::of::<K>().0.spec.versions);
        self
    }

    /// A further version that differs by its name only, served for old clients.
    fn also_deprecated(mut self, name: &str) -> Self {
        let versions = &mut self.0.spec.versions;
        let older: Vec<_> = versions
            .iter()
            .map(|version| CustomResourceDefinitionVersion {
                name: name.to_owned(),
                storage: false,
                deprecated: Some(true),
                ..version.clone()
            })
            .collect();
        versions.extend(older);
        self
    }

    /// Whether `/status` is a subresource. CiliumIdentity has it without a status, others a status without it; the derive
    /// ties the two together.
    fn status_subresource(mut self, wanted: bool) -> Self {
        for version in &mut self.0.spec.versions {
            version.subresources = wanted.then(|| CustomResourceSubresources {
                status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                ..Default::default()
            });
        }
        self
    }

    /// Does not require `metadata` in the schema, as Cilium's does not for some kinds. No object comes without it.
    fn metadata_optional(mut self) -> Self {
        let schemas = self.0.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
        for required in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()?.required.as_mut()) {
            required.retain(|field| field != "metadata");
        }
        self
    }

    fn finish(self) -> CustomResourceDefinition {
        let mut crd = self.0;
        crd.labels_mut().insert(SCHEMA_VERSION_LABEL.to_owned(), schema_version().to_owned());
        crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
        crd
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
        for kept in [schema_version(), "1.36.1", "1.37", "2.0.0"] {
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
    fn words_that_kubectl_would_take_for_true_or_false_are_quoted() {
        assert_eq!(quoted("    - No"), "    - 'No'");
        assert_eq!(quoted("  default: on"), "  default: 'on'");
        for plain in ["served: true", "- None", "- 'No'", "description: say no", "plural: nos"] {
            assert_eq!(quoted(plain), plain);
        }
        for crd in all() {
            let again: CustomResourceDefinition = serde_yaml::from_str(&yaml(&crd).unwrap()).unwrap();
            assert_eq!(again, crd, "{}", crd.name_any());
        }
    }

    #[test]
    fn the_own_version_is_one() {
        assert!(parse_version(schema_version()).is_some());
    }
}
