//! Writes CiliumEndpoints.

use std::future::Future;

use axoneme_crds::v2::CiliumEndpoint;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::endpoint::patch;
use crate::object::Name;

/// Counts of what is written.
#[derive(Clone, Debug, Default)]
pub struct StatusMetrics {
    pub(super) written: Counter,
    pub(super) failed: Counter,
    pub(super) waiting: Gauge,
}

impl StatusMetrics {
    /// Registers them; `registry` carries the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register("endpoint_writes", "CiliumEndpoints created, changed or deleted", own.written.clone());
        registry.register("endpoint_write_failures", "Writes that the API server refused", own.failed.clone());
        registry.register("endpoint_writes_waiting", "CiliumEndpoints to be written", own.waiting.clone());
        own
    }
}

/// The API, as far as CiliumEndpoints need it.
pub(super) trait Endpoints: Clone + Send + Sync + 'static {
    /// One page of all of them and where the next one begins.
    fn list(
        &self,
        continued: Option<String>,
    ) -> impl Future<Output = Result<(Vec<CiliumEndpoint>, Option<String>), kube::Error>> + Send;

    /// Makes the object say this, whether or not it exists; `exists` is a guess and saves a request.
    fn write(
        &self,
        name: &Name,
        wanted: &CiliumEndpoint,
        exists: bool,
    ) -> impl Future<Output = Result<(), kube::Error>> + Send;

    /// Deletes the object if it exists.
    fn delete(&self, name: &Name) -> impl Future<Output = Result<(), kube::Error>> + Send;
}

/// The real one.
#[derive(Clone)]
pub struct KubernetesWriter(Client);

impl std::fmt::Debug for KubernetesWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesWriter").finish_non_exhaustive()
    }
}

impl KubernetesWriter {
    /// Writes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    pub(super) const fn client(&self) -> &Client {
        &self.0
    }

    fn api(&self, name: &Name) -> Api<CiliumEndpoint> {
        Api::namespaced(self.0.clone(), &name.namespace)
    }
}

impl Endpoints for KubernetesWriter {
    async fn list(&self, continued: Option<String>) -> Result<(Vec<CiliumEndpoint>, Option<String>), kube::Error> {
        let params = ListParams { limit: Some(500), continue_token: continued, ..ListParams::default() };
        let list = Api::<CiliumEndpoint>::all(self.0.clone()).list(&params).await?;
        Ok((list.items, list.metadata.continue_.filter(|token| !token.is_empty())))
    }

    async fn write(&self, name: &Name, wanted: &CiliumEndpoint, exists: bool) -> Result<(), kube::Error> {
        let api = self.api(name);
        if !exists && create(&api, wanted).await? {
            return Ok(());
        }
        let patch = Patch::Merge(patch(wanted));
        match api.patch_metadata(&name.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => create(&api, wanted).await.map(|_| ()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, name: &Name) -> Result<(), kube::Error> {
        let api = self.api(name);
        let found: Option<PartialObjectMeta<CiliumEndpoint>> = api.get_metadata_opt(&name.name).await?;
        let Some(found) = found else { return Ok(()) };
        let preconditions =
            Preconditions { uid: found.metadata.uid, resource_version: found.metadata.resource_version };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&name.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Creates the object; false if there is one.
async fn create(api: &Api<CiliumEndpoint>, wanted: &CiliumEndpoint) -> Result<bool, kube::Error> {
    match api.create(&PostParams::default(), wanted).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        // The namespace goes, and the pod with it.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_forbidden() => Ok(true),
        Err(error) => Err(error),
    }
}
