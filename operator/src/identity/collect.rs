//! Deletes identities that nobody uses.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{IdentityMetrics, Registry};
use crate::engine::Demands;
use crate::leader::Tenure;

/// Between two deletions: nobody waits for them.
const PACE: Duration = Duration::from_millis(50);

/// Deletes what the newest snapshot calls unused, one after the other, each `interval` (0: never), for as long as there is an
/// engine. An identity that is used
/// again until its turn comes is not in the snapshot any more; one that is used again while it is deleted gets the same number
/// anew, because that is probed from its labels.
pub async fn collect_identities<R: Registry>(
    mut demands: watch::Receiver<Arc<Demands>>,
    registry: R,
    interval: Duration,
    tenure: Tenure,
    metrics: IdentityMetrics,
) {
    let mut next = Instant::now() + interval;
    while demands.has_changed().is_ok() {
        if interval.is_zero() {
            // Ends with the engine.
            while demands.changed().await.is_ok() {}
            return;
        }
        tokio::time::sleep_until(next).await;
        next = Instant::now() + interval;
        let mut tried = HashSet::new();
        loop {
            let snapshot = Arc::clone(&demands.borrow_and_update());
            let mut unused = snapshot.unused_identities.iter();
            let Some(identity) = unused.find(|unused| !tried.contains(&unused.id)).filter(|_| tenure.holds()) else {
                break;
            };
            tried.insert(identity.id);
            match registry.delete(identity).await {
                Ok(true) => {
                    metrics.deleted.inc();
                    info!(identity = identity.id, "identity deleted: nobody uses it");
                }
                Ok(false) => {}
                Err(error) => warn!(identity = identity.id, %error, "an identity that nobody uses cannot be deleted"),
            }
            tokio::time::sleep(PACE).await;
        }
    }
}
