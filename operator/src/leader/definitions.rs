//! The leader's first act: the CRDs, only upward, never deleted.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tracing::{info, warn};

/// How long a definition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// Why a definition is not there.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The API server refused it or does not answer.
    #[error("CustomResourceDefinition {name} cannot be applied")]
    Api {
        /// Its name.
        name: String,
        /// What the API server says.
        source: kube::Error,
    },
    /// It is being deleted, or its names are taken by another one.
    #[error("CustomResourceDefinition {name} is not established after {} s: {state}", ESTABLISHED.as_secs())]
    NotEstablished {
        /// Its name.
        name: String,
        /// Its conditions.
        state: String,
    },
}

/// Applies all definitions and waits until the API server serves them. A newer one that is there stays.
///
/// # Errors
/// See [`DefinitionError`]; nothing is lost by trying again.
pub async fn apply_definitions(client: &Client) -> Result<(), DefinitionError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let all = axoneme_crds::all();
    let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    for (name, wanted) in names.iter().zip(all) {
        apply(&api, name, wanted).await.map_err(|source| DefinitionError::Api { name: name.clone(), source })?;
    }
    for name in &names {
        established(&api, name).await?;
    }
    Ok(())
}

/// Creates or replaces one; a writer that was faster is judged anew.
async fn apply(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    wanted: CustomResourceDefinition,
) -> Result<(), kube::Error> {
    loop {
        let found = api.get_opt(name).await?;
        if !axoneme_crds::needs_update(found.as_ref()) {
            return Ok(());
        }
        let result = match found {
            None => api.create(&PostParams::default(), &wanted).await,
            Some(found) => api.replace(name, &PostParams::default(), &upgraded(found, &wanted)).await,
        };
        match result {
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(error),
            Ok(_) => {
                info!(definition = name, version = axoneme_crds::schema_version(), "CustomResourceDefinition applied");
                return Ok(());
            }
        }
    }
}

/// What others put on the definition stays: labels, annotations, conversion.
fn upgraded(mut found: CustomResourceDefinition, wanted: &CustomResourceDefinition) -> CustomResourceDefinition {
    let conversion = found.spec.conversion.take();
    found.spec = wanted.spec.clone();
    found.spec.conversion = found.spec.conversion.or(conversion);
    found.labels_mut().extend(wanted.labels().clone());
    found.metadata.managed_fields = None;
    found
}

async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), DefinitionError> {
    let deadline = tokio::time::Instant::now() + ESTABLISHED;
    loop {
        let found = api.get_opt(name).await.map_err(|source| DefinitionError::Api { name: name.into(), source })?;
        let state = match found {
            None => "it was deleted".to_owned(),
            Some(crd) if crd.metadata.deletion_timestamp.is_some() => "it is being deleted".to_owned(),
            Some(crd) => {
                let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
                if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
                    return Ok(());
                }
                let bad = conditions.into_iter().filter(|c| c.status != "True");
                bad.map(|c| format!("{}: {}", c.type_, c.message.unwrap_or_default())).collect::<Vec<_>>().join(", ")
            }
        };
        if tokio::time::Instant::now() >= deadline {
            warn!(definition = name, state, "not established");
            return Err(DefinitionError::NotEstablished { name: name.to_owned(), state });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_keeps_what_others_added() {
        let wanted = axoneme_crds::all().remove(0);
        let mut found = wanted.clone();
        found.metadata.resource_version = Some("5".into());
        found.labels_mut().insert(axoneme_crds::SCHEMA_VERSION_LABEL.into(), "1.0.0".into());
        found.labels_mut().insert("team".into(), "net".into());
        found.spec.versions.clear();
        let upgraded = upgraded(found, &wanted);
        assert_eq!(upgraded.spec, wanted.spec);
        assert_eq!(upgraded.metadata.resource_version.as_deref(), Some("5"));
        assert_eq!(upgraded.labels()["team"], "net");
        assert!(!axoneme_crds::needs_update(Some(&upgraded)));
    }
}
