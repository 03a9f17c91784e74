//! The pods attached to this node: the CNI server, and what it makes of its commands.
//!
//! An endpoint is a pod UID; an attachment is a container id and an interface, and several may serve one pod for a while, when
//! its sandbox is made anew before the old one's DEL arrives. Every attachment has a file that is written before the kernel is
//! touched and removed after: whatever an interrupted daemon leaves behind is found by it, at the next start or the next ADD or
//! DEL of the same container.

mod add;
pub mod attachment;
mod chain;
mod check;
pub mod conflist;
mod del;
mod enforce;
mod error;
mod follow;
mod gc;
mod locks;
mod maps;
pub mod metrics;
pub mod protocol;
pub mod reserve;
mod restore;
pub mod server;
pub mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use add::AddRequest;
pub use attachment::{Attachment, AttachmentKey, Phase, PodSandbox};
pub use chain::ChainError;
pub use error::AttachError;
pub use maps::EndpointMaps;
pub use restore::Restored;

use tokio::sync::watch;

use crate::desired::pods::Pods;
use crate::link::Links;
use crate::link::worker::Worker;
use crate::observe::outbox::Reports;
use crate::programs::Paths;
use crate::reconcile::ops::MapError;
use locks::KeyLocks;
use reserve::Reserve;
use store::Store;

/// How long ADD waits for the pod's row and policy. The kubelet retries, and shows what the pod waits for meanwhile.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// The pods attached to this node. Clones share everything.
#[derive(Clone)]
pub struct Endpoints {
    inner: Arc<Inner>,
}

/// What [`Endpoints`] is made of.
pub struct Parts {
    /// In the host's network namespace.
    pub links: Links,
    /// Where programs are pinned.
    pub paths: Paths,
    /// Where attachments are kept.
    pub store: Store,
    /// Their maps.
    pub maps: EndpointMaps,
    /// Says what a pod gets.
    pub pods: Arc<dyn Pods>,
    /// Is told of attachments.
    pub reports: Arc<dyn Reports>,
    /// Where the plugin leaves DELs that found no daemon.
    pub deferred: PathBuf,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// How long ADD waits for the pod's row and policy.
    pub wait: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("store", &self.store).field("wait", &self.wait).finish_non_exhaustive()
    }
}

struct Inner {
    links: Links,
    paths: Paths,
    pods: Arc<dyn Pods>,
    reports: Arc<dyn Reports>,
    deferred: PathBuf,
    metrics: metrics::Metrics,
    wait: Duration,
    /// MTU of the node's network for pods; sent whenever that network was looked at.
    network: watch::Sender<u32>,
    /// What makes devices does not wait for what removes them, which takes longer.
    making: Worker,
    removing: Worker,
    /// One command at a time for a container, and one change at a time for a pod.
    locks: KeyLocks,
    state: Mutex<State>,
}

/// Held for a few system calls at most, never across an await.
struct State {
    store: Store,
    maps: EndpointMaps,
    reserve: Reserve,
}

impl Endpoints {
    /// With the attachments that `parts.store` has; call [`Endpoints::restore`] next.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { links, paths, store, maps, pods, reports, deferred, metrics, wait } = parts;
        let state = Mutex::new(State { store, maps, reserve: Reserve::default() });
        let (locks, network) = (KeyLocks::default(), watch::Sender::new(0));
        let (making, removing) = (Worker::new(links.clone()), Worker::new(links.clone()));
        let inner =
            Inner { links, paths, pods, reports, deferred, metrics, wait, network, making, removing, locks, state };
        Self { inner: Arc::new(inner) }
    }

    /// All attachments, also those in the making.
    #[must_use]
    pub fn attachments(&self) -> Vec<Attachment> {
        self.state().store.all().cloned().collect()
    }

    /// The last attachment of every pod, with its entry in `ax_endpoints`.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn in_kernel(&self) -> Result<Vec<(Attachment, Option<axoneme_bpf::endpoint::Endpoint>)>, MapError> {
        let state = self.state();
        let mut pods: BTreeMap<&str, &Attachment> = BTreeMap::new();
        for attachment in state.store.all() {
            let last = pods.entry(&attachment.pod_uid).or_insert(attachment);
            if last.sequence < attachment.sequence {
                *last = attachment;
            }
        }
        let read = |attachment: &Attachment| Ok((attachment.clone(), state.maps.endpoints.get(&attachment.ifindex)?));
        pods.into_values().map(read).collect()
    }

    /// Waits until what was begun with pods' devices is done or given up.
    pub async fn finish(&self) {
        for worker in [&self.inner.making, &self.inner.removing] {
            // One that cannot work has nothing to finish.
            let _ = worker.run(async |_| Ok(())).await;
        }
    }

    pub(crate) fn count(&self, command: protocol::Command, response: &protocol::Response, took: Duration) {
        self.inner.metrics.request(command, response, took);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panicking holder left half done is on disk as such.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("attachments", &self.state().store.all().count()).finish_non_exhaustive()
    }
}
