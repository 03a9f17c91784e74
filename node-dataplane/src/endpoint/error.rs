//! Why a CNI request failed, and how that is told.

use std::error::Error as _;

use super::attachment::{AttachmentKey, NoPod};
use super::chain::ChainError;
use super::protocol::{Failure, code};
use super::reserve::Exhausted;
use super::store::StoreError;
use crate::desired::pods::PodError;
use crate::link::LinkError;
use crate::link::netns::InvalidNamespace;
use crate::reconcile::ops::MapError;

/// Why a CNI request failed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Container id or interface cannot be ones.
    #[error("CNI_CONTAINERID {container_id:?} or CNI_IFNAME {interface:?} is invalid")]
    Key {
        /// As given.
        container_id: String,
        /// As given.
        interface: String,
    },
    /// The pod is not named.
    #[error(transparent)]
    Pod(#[from] NoPod),
    /// No namespace was sent.
    #[error("CNI_NETNS {0:?} could not be opened")]
    NoNamespace(String),
    /// What was sent is none.
    #[error("CNI_NETNS {path:?} is invalid")]
    Namespace {
        /// As given.
        path: String,
        /// Why.
        source: InvalidNamespace,
    },
    /// What the pod gets is not known yet.
    #[error(transparent)]
    Desired(#[from] PodError),
    /// The reserve is used up.
    #[error(transparent)]
    Reserve(#[from] Exhausted),
    /// The operator gave no address.
    #[error("pod {namespace}/{name} was given no address")]
    NoAddress {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// The pod's row insists on its peers being told of it, and they are not.
    #[error(
        "the peers of pod {namespace}/{name} are not told of it yet, and a policy that denies it must not be passed by ({})",
        if *.connected { "nodes that hold it have not answered" } else { "no operator is connected" }
    )]
    Barrier {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// Whether an operator is connected.
        connected: bool,
    },
    /// The plugin before this one left nothing to attach to.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// STATUS: pods cannot be attached yet.
    #[error(transparent)]
    Unready(PodError),
    /// STATUS: the data path is not there.
    #[error("the programs of pods are not loaded: also what is attached may be cut off")]
    Unloaded(#[source] std::io::Error),
    /// Devices refused.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The programs of pods are not pinned.
    #[error("the programs of pods are not loaded")]
    Programs(#[source] std::io::Error),
    /// A map refused.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operator could not be told of a detachment, not even later.
    #[error("the detachment of {key} cannot be recorded for the operator")]
    Report {
        /// Which attachment.
        key: AttachmentKey,
        /// Why.
        source: std::io::Error,
    },
    /// CHECK: there is no such attachment.
    #[error("{0} is not attached: delete the pod, so that its sandbox is made anew")]
    NotAttached(AttachmentKey),
    /// CHECK: something is missing.
    #[error("{key} is not as it should be: {}", .missing.join("; "))]
    Broken {
        /// Which attachment.
        key: AttachmentKey,
        /// What is missing.
        missing: Vec<String>,
    },
}

impl AttachError {
    fn code(&self) -> u32 {
        match self {
            Self::Key { .. } | Self::Pod(_) | Self::NoNamespace(_) | Self::Namespace { .. } => {
                code::INVALID_ENVIRONMENT
            }
            Self::Chain(_) => code::INVALID_CONFIG,
            Self::Unready(_) => code::NOT_AVAILABLE,
            Self::Unloaded(_) => code::LIMITED,
            Self::Desired(_) | Self::Reserve(_) | Self::NoAddress { .. } | Self::Programs(_) | Self::Barrier { .. } => {
                code::TRY_AGAIN
            }
            Self::Map(MapError::Capacity { .. }) => code::TRY_AGAIN,
            Self::Store(_) | Self::Report { .. } => code::IO,
            Self::Link(_) | Self::Map(_) => code::KERNEL,
            Self::NotAttached(_) | Self::Broken { .. } => code::BROKEN,
        }
    }
}

impl From<&AttachError> for Failure {
    fn from(error: &AttachError) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        let mut message = error.to_string();
        // Runtimes show the message and drop the details.
        for cause in &causes {
            if !message.contains(cause.as_str()) {
                message = format!("{message}: {cause}");
            }
        }
        Self { code: error.code(), message, details: causes.join(": ") }
    }
}
