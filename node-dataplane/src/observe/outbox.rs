//! What has to reach the operator at least once.

use std::io;

use axoneme_proto::nodesync::{Attached, Detached};
use futures::future::BoxFuture;

/// Where the CNI server tells of attachments.
pub trait Reports: Send + Sync {
    /// A pod was attached. Not persisted: the attachments are, and are told again after a restart.
    fn attached(&self, attached: Attached);

    /// A pod's last attachment is gone. Done when it is on disk, so that it reaches the operator even if the daemon dies.
    fn detached(&self, detached: Detached) -> BoxFuture<'static, io::Result<()>>;
}
