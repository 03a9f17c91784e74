//! `axoneme crds`: the definitions of this project's kinds.

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;

/// The definitions of these kinds, or all, as a YAML stream.
pub fn crds(kinds: &[String]) -> Result<String> {
    let all = axoneme_crds::all();
    if let Some(unknown) = kinds.iter().find(|kind| !all.iter().any(|definition| is_named(definition, kind))) {
        let known: Vec<&str> = all.iter().map(|definition| definition.spec.names.plural.as_str()).collect();
        bail!("unknown kind {unknown}; there are {}", known.join(", "));
    }
    let wanted = |definition: &&Definition| kinds.is_empty() || kinds.iter().any(|kind| is_named(definition, kind));
    let mut yaml = String::new();
    for definition in all.iter().filter(wanted) {
        yaml.push_str("---\n");
        yaml.push_str(&axoneme_crds::yaml(definition).context("cannot write a definition as YAML")?);
    }
    Ok(yaml)
}

/// Whether kubectl, too, would take `name` for this kind.
fn is_named(definition: &Definition, name: &str) -> bool {
    let names = &definition.spec.names;
    let long = [Some(&names.kind), Some(&names.plural), names.singular.as_ref()].into_iter().flatten();
    long.chain(names.short_names.iter().flatten()).any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_by_all_their_names() {
        let one = crds(&["ciliumnodes".into()]).unwrap();
        assert!(one.contains("name: ciliumnodes.cilium.io") && one.matches("---\n").count() == 1, "{one}");
        for name in ["cn", "CiliumNode", "ciliumnode"] {
            assert_eq!(crds(&[name.into()]).unwrap(), one);
        }
        assert_eq!(crds(&[]).unwrap(), axoneme_crds::to_yaml().unwrap());
    }

    #[test]
    fn an_unknown_kind_is_named_with_those_that_exist() {
        let error = crds(&["cep".into(), "pods".into()]).unwrap_err().to_string();
        assert!(error.starts_with("unknown kind pods; there are cilium"), "{error}");
    }
}
