//! Whether this replica knows what a node's rows were made of. One whose watches lag would tell the node things that are over.

use std::time::Duration;

use axoneme_proto::nodesync::Hello;
use tokio::sync::watch;

use crate::object::{Kind, Versions};

/// A node is held up this long at most: it has no operator meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a node that knows more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// It does not.
    AtOnce,
    /// It did.
    Waited,
    /// It still does, of these kinds.
    Behind(Vec<Kind>),
}

/// What is known, and what nodes have spoken of.
#[derive(Clone, Debug)]
pub(super) struct Freshness {
    known: watch::Receiver<Versions>,
    wanted: watch::Sender<Versions>,
}

impl Freshness {
    /// With the end by which the engine says what it knows.
    pub(super) fn new() -> (watch::Sender<Versions>, Self) {
        let (known, receiver) = watch::channel(Versions::default());
        (known, Self { known: receiver, wanted: watch::Sender::default() })
    }

    pub(super) fn wanted(&self) -> watch::Receiver<Versions> {
        self.wanted.subscribe()
    }

    /// Waits until what the node speaks of is known.
    pub(super) async fn catch_up(&self, hello: &Hello) -> CaughtUp {
        let claimed = Versions::from_inputs(&hello.inputs);
        let mut known = self.known.clone();
        if known.borrow_and_update().covers(&claimed) {
            return CaughtUp::AtOnce;
        }
        self.wanted.send_if_modified(|wanted| {
            let raised = wanted.max(&claimed);
            std::mem::replace(wanted, raised) != raised
        });
        // An engine that has ended tells the session by itself.
        if tokio::time::timeout(PATIENCE, known.wait_for(|known| known.covers(&claimed))).await.is_ok() {
            return CaughtUp::Waited;
        }
        CaughtUp::Behind(self.known.borrow().behind(&claimed).collect())
    }
}
