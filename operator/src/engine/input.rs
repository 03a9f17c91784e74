//! What the engine is told.

use std::sync::Arc;

use axoneme_proto::nodesync;

use crate::object::{Kind, Object, ObjectKey};

/// One thing that happened. Order matters only between inputs about the same object, or from the same node.
#[derive(Clone, Debug)]
pub enum Input {
    /// An object exists with this content. Saying it again with the same content is free.
    Upsert(Object),
    /// An object is gone; also said for those that a relist did not find again.
    Delete(ObjectKey),
    /// The first list of this kind is complete (all its objects were upserted before), or the API server does not have it.
    Synced(Kind),
    /// Of this kind everything up to this resourceVersion was said before.
    Seen(Kind, u64),
    /// A consistent list of this kind is complete that began after somebody spoke of this resourceVersion: what is said now is
    /// as new, also where its versions are lower.
    Listed(Kind, u64),
    /// From a node's stream of observations.
    Observed {
        /// The node that the certificate names.
        node: Arc<str>,
        /// What it says.
        event: Observed,
    },
    /// From a node's stream of desired state; sessions send this themselves.
    Session {
        /// The node that the certificate names.
        node: Arc<str>,
        /// Which of the node's sessions: a late end of an old one must not end the new one.
        session: u64,
        /// What happened.
        event: SessionEvent,
    },
}

/// An event of a node's stream of observations.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A pod was attached, or still is.
    Attached(nodesync::Attached),
    /// A pod's last attachment is gone.
    Detached(nodesync::Detached),
    /// Everything that is attached: what is not named is not.
    AllAttached(nodesync::AllAttached),
    /// Facts about the node.
    Report(nodesync::NodeReport),
}

/// An event of a session.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// The node said Hello and holds everything up to this revision of this journal (0: nothing).
    Opened {
        /// The revision from which it goes on.
        revision: u64,
        /// The journal's newest one at that moment: its first delta leads at least there.
        newest: u64,
    },
    /// The node acknowledged.
    Acked(nodesync::Ack),
    /// The stream ended.
    Closed,
}
