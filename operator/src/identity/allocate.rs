//! One label set.

use super::number::{COUNT, number};
use super::registry::{Created, Registry};
use crate::leader::Tenure;
use crate::object::Labels;

/// How a label set got its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocated {
    /// This process created the object.
    Created(u32),
    /// It was there.
    Adopted(u32),
}

impl Allocated {
    /// The number.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::Created(id) | Self::Adopted(id) => id,
        }
    }
}

/// Why it got none.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The API server refused or does not answer.
    #[error("CiliumIdentity {id} cannot be created")]
    Api {
        /// Its number.
        id: u32,
        /// What the API server says.
        source: kube::Error,
    },
    /// All numbers of the cluster are taken by other label sets.
    #[error("all {COUNT} identities of this cluster are taken; fewer distinct label sets are needed")]
    Exhausted,
    /// Somebody else may lead.
    #[error("this process may not lead any more")]
    NotLeading,
}

/// Probes until the label set has a number. The one that it has `lost` comes first: its pods are known by it.
pub(super) async fn allocate<R: Registry>(
    registry: &R,
    labels: &Labels,
    lost: Option<u32>,
    cluster_id: u32,
    tenure: &Tenure,
) -> Result<Allocated, AllocateError> {
    for id in lost.into_iter().chain((0..COUNT).map(|attempt| number(labels, attempt, cluster_id))) {
        loop {
            if !tenure.holds() {
                return Err(AllocateError::NotLeading);
            }
            let created = registry.create(id, labels).await.map_err(|source| AllocateError::Api { id, source })?;
            match created {
                Created::New => return Ok(Allocated::Created(id)),
                Created::Existed(theirs) if theirs == *labels => return Ok(Allocated::Adopted(id)),
                Created::Existed(_) => break,
                // Deleted between two requests: the number is free.
                Created::Vanished => {}
            }
        }
    }
    Err(AllocateError::Exhausted)
}
