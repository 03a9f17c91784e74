//! What the CNI server tells, to those who need it: the operator, and the reconcilers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axoneme_proto::address::from_bytes;
use axoneme_proto::nodesync::{Attached, Detached};
use futures::future::BoxFuture;

use super::outbox::{Outbox, Reports};
use crate::reconcile::State;

/// Clones share what they know.
#[derive(Clone, Debug)]
pub struct Reporter {
    outbox: Outbox,
    state: State,
    /// By container.
    attached: Arc<Mutex<BTreeMap<String, Attached>>>,
}

impl Reporter {
    /// Tells both.
    #[must_use]
    pub fn new(outbox: Outbox, state: State) -> Self {
        Self { outbox, state, attached: Arc::default() }
    }

    /// Tells the operator of everything that is attached, and that nothing else is: one with another journal may not know what an
    /// earlier one was told.
    pub fn repeat(&self) {
        let attached = self.lock();
        self.outbox.all_attached(attached.values().cloned().collect());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports for Reporter {
    fn attached(&self, attached: Attached) {
        self.lock().insert(attached.container_id.clone(), attached.clone());
        self.state.attached(attached.pod_uid.clone(), attached.identity);
        self.outbox.attached(attached);
    }

    fn detached(&self, detached: Detached) -> BoxFuture<'static, io::Result<()>> {
        // The last attachment of a pod: earlier ones are gone as well.
        self.lock().retain(|_, attached| attached.pod_uid != detached.pod_uid);
        let addresses = detached.addresses.iter().filter_map(|bytes| from_bytes(bytes).ok()).collect();
        self.state.detached(detached.pod_uid.clone(), addresses);
        self.outbox.detached(detached)
    }
}
