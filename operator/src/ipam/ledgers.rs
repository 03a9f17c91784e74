//! Where ledgers are: `CiliumNode` objects.

use std::future::Future;
use std::sync::Arc;

use axoneme_crds::v2;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::Value;

use crate::object::CiliumNode;
use crate::watch::Ledger;

/// The API, as far as IPAM needs it. Writes give the new resourceVersion, or none if the object is not what it was thought to
/// be.
pub trait Ledgers: Send + Sync + 'static {
    /// All of them, read consistently.
    fn list(&self) -> impl Future<Output = Result<Vec<CiliumNode>, kube::Error>> + Send;

    /// One of them.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<CiliumNode>, kube::Error>> + Send;

    /// Creates one that must not exist.
    fn create(&self, ledger: v2::CiliumNode) -> impl Future<Output = Result<Option<Arc<str>>, kube::Error>> + Send;

    /// Changes one by a merge patch, which carries the resourceVersion that it must still have.
    fn patch(&self, name: &str, patch: Value) -> impl Future<Output = Result<Option<Arc<str>>, kube::Error>> + Send;

    /// Deletes one that must not have changed; false if it has.
    fn delete(&self, ledger: &CiliumNode) -> impl Future<Output = Result<bool, kube::Error>> + Send;
}

/// The real one.
#[derive(Clone)]
pub struct KubernetesLedgers {
    slim: Api<Ledger>,
    full: Api<v2::CiliumNode>,
}

impl std::fmt::Debug for KubernetesLedgers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesLedgers").finish_non_exhaustive()
    }
}

impl KubernetesLedgers {
    /// Reads and writes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { slim: Api::all(client.clone()), full: Api::all(client) }
    }
}

impl Ledgers for KubernetesLedgers {
    async fn list(&self) -> Result<Vec<CiliumNode>, kube::Error> {
        let mut params = ListParams::default().limit(500);
        let mut ledgers = Vec::new();
        loop {
            let page = self.slim.list(&params).await?;
            ledgers.extend(page.items.into_iter().map(CiliumNode::from));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(ledgers),
            }
        }
    }

    async fn get(&self, name: &str) -> Result<Option<CiliumNode>, kube::Error> {
        Ok(self.slim.get_opt(name).await?.map(CiliumNode::from))
    }

    async fn create(&self, ledger: v2::CiliumNode) -> Result<Option<Arc<str>>, kube::Error> {
        let created = self.full.create(&PostParams::default(), &ledger).await;
        unless_conflict(created.map(|object| object.metadata.resource_version))
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Option<Arc<str>>, kube::Error> {
        let patched: Result<PartialObjectMeta<v2::CiliumNode>, _> =
            self.full.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        unless_conflict(patched.map(|object| object.metadata.resource_version))
    }

    async fn delete(&self, ledger: &CiliumNode) -> Result<bool, kube::Error> {
        let version = ledger.resource_version.to_string();
        let preconditions = Preconditions { uid: Some(ledger.uid.to_string()), resource_version: Some(version) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.full.delete(&ledger.name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn unless_conflict(version: Result<Option<String>, kube::Error>) -> Result<Option<Arc<str>>, kube::Error> {
    match version {
        Ok(version) => Ok(Some(Arc::from(version.unwrap_or_default()))),
        Err(kube::Error::Api(s)) if s.is_conflict() || s.is_already_exists() || s.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
