//! Pools that exist from the first start on.

use std::collections::BTreeMap;

use axoneme_crds::v2alpha1::{CiliumPodIPPool, PodIpPoolSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::info;

/// Why a pool was not created.
#[derive(Debug, thiserror::Error)]
#[error("CiliumPodIPPool {name} of ipam.operator.autoCreateCiliumPodIPPools cannot be created")]
pub struct CreatePoolError {
    /// Its name.
    pub name: String,
    /// What the API server says.
    pub source: kube::Error,
}

/// Creates those that do not exist; one that does stays as it is, because it is a user's from then on.
///
/// # Errors
/// When the API server refuses one or does not answer.
pub async fn create_pools(client: &Client, pools: &BTreeMap<String, PodIpPoolSpec>) -> Result<(), CreatePoolError> {
    let api: Api<CiliumPodIPPool> = Api::all(client.clone());
    for (name, spec) in pools {
        let pool = CiliumPodIPPool::new(name, spec.clone());
        match api.create(&PostParams::default(), &pool).await {
            Ok(_) => info!(pool = name, "CiliumPodIPPool created"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(source) => return Err(CreatePoolError { name: name.clone(), source }),
        }
    }
    Ok(())
}
