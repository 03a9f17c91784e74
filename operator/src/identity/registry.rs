//! Where identities are: `CiliumIdentity` objects.

use std::collections::BTreeMap;
use std::future::Future;

use axoneme_crds::v2;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};

use crate::object::{CiliumIdentity, Labels};

/// What became of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was created.
    New,
    /// The number has these labels.
    Existed(Labels),
    /// It existed, and then it did not.
    Vanished,
}

/// The API, as far as identities need it.
pub trait Registry: Send + Sync + 'static {
    /// Creates the identity, or says what it is.
    fn create(&self, id: u32, labels: &Labels) -> impl Future<Output = Result<Created, kube::Error>> + Send;

    /// Deletes the identity if it is still this very object; false if it is not.
    fn delete(&self, identity: &CiliumIdentity) -> impl Future<Output = Result<bool, kube::Error>> + Send;
}

/// The real one.
#[derive(Clone)]
pub struct KubernetesRegistry(Api<v2::CiliumIdentity>);

impl std::fmt::Debug for KubernetesRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesRegistry").finish_non_exhaustive()
    }
}

impl KubernetesRegistry {
    /// Writes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Api::all(client))
    }
}

impl Registry for KubernetesRegistry {
    async fn create(&self, id: u32, labels: &Labels) -> Result<Created, kube::Error> {
        match self.0.create(&PostParams::default(), &object(id, labels)).await {
            Ok(_) => Ok(Created::New),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = self.0.get_opt(&id.to_string()).await?;
                let labels = found.map(|identity| identity.spec.security_labels.into_iter().collect());
                Ok(labels.map_or(Created::Vanished, Created::Existed))
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, identity: &CiliumIdentity) -> Result<bool, kube::Error> {
        let (uid, version) = (identity.uid.to_string(), identity.resource_version.to_string());
        let preconditions = Preconditions { uid: Some(uid), resource_version: Some(version) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.0.delete(&identity.id.to_string(), &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn object(id: u32, labels: &Labels) -> v2::CiliumIdentity {
    let security_labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let metadata = ObjectMeta { name: Some(id.to_string()), labels: Some(searchable(labels)), ..ObjectMeta::default() };
    let spec = v2::IdentityFields { security_labels, ..v2::IdentityFields::default() };
    v2::CiliumIdentity { metadata, spec }
}

/// The labels from Kubernetes, as labels of the object for `kubectl get ciliumid -l`. Those that are too long for it (a
/// namespace's label has a prefix here) are left out; `security-labels` has them all.
fn searchable(labels: &Labels) -> BTreeMap<String, String> {
    let from_kubernetes = labels.iter().filter_map(|(key, value)| Some((key.strip_prefix("k8s:")?, value)));
    let valid = from_kubernetes.filter(|(key, value)| is_key(key) && is_value(value));
    valid.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| !prefix.is_empty() && prefix.len() <= 253) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63 && value.chars().all(inner) && end(value.chars().next()) && end(value.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_what_kubernetes_takes_and_security_labels_have_all() {
        let long = format!("k8s:io.cilium.k8s.namespace.labels.{}", "x".repeat(60));
        let labels: Labels = [
            ("k8s:app", "web"),
            ("k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", "a"),
            (&*long, "1"),
            ("reserved:init", ""),
        ]
        .into_iter()
        .collect();
        let object = object(300, &labels);
        assert_eq!(object.metadata.name.as_deref(), Some("300"));
        assert_eq!(object.spec.security_labels.len(), 4);
        let keys: Vec<_> = object.metadata.labels.unwrap().into_keys().collect();
        assert_eq!(keys, ["app", "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"]);
    }
}
