//! What sessions are to be told of their pods, until they fetch it. A pod is told once, however often it was meant to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axoneme_proto::nodesync::Told;
use tokio::sync::Notify;

use super::barrier::Telling;

/// One session's.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pods: Mutex<BTreeMap<String, Telling>>,
    filled: Notify,
}

impl Mailbox {
    /// What may be told to a node that was sent everything up to `revision`.
    pub(super) fn take(&self, revision: u64) -> Option<Told> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let due = pods.extract_if(.., |_, telling| telling.due <= revision);
        let pods: Vec<_> = due.map(|(_, telling)| telling.pod).collect();
        (!pods.is_empty()).then_some(Told { pods })
    }

    /// Waits for more.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

/// Those of all sessions, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Mailboxes(Arc<Mutex<HashMap<Arc<str>, Arc<Mailbox>>>>);

impl Mailboxes {
    /// That of a new session; an older one of the node gets nothing any more.
    pub(super) fn open(&self, node: &Arc<str>) -> Arc<Mailbox> {
        let mailbox = Arc::<Mailbox>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(node), Arc::clone(&mailbox));
        mailbox
    }

    /// A session has ended.
    pub(super) fn close(&self, node: &Arc<str>, mailbox: &Arc<Mailbox>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(node).is_some_and(|known| Arc::ptr_eq(known, mailbox)) {
            all.remove(node);
        }
    }

    /// Puts each where it belongs; a node without a session will ask when it has one.
    pub(super) fn deliver(&self, told: Vec<(Arc<str>, Telling)>) {
        if told.is_empty() {
            return;
        }
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, telling) in told {
            if let Some(mailbox) = all.get(&node) {
                let mut pods = mailbox.pods.lock().unwrap_or_else(PoisonError::into_inner);
                pods.insert(telling.pod.pod_uid.clone(), telling);
                mailbox.filled.notify_one();
            }
        }
    }
}
