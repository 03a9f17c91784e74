//! Deletes identities that nobody uses.

use std::collections::HashMap;
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

/// What could not be deleted, or is still there, is tried again after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// Deletes what the newest snapshot calls unused, one after the other, for as long as there is an engine. An identity that is used
/// again until its turn comes is not in the snapshot any more; one that is used again while it is deleted gets the same number
/// anew, because that is probed from its labels.
pub async fn collect_identities<R: Registry>(
    mut demands: watch::Receiver<Arc<Demands>>,
    registry: R,
    tenure: Tenure,
    metrics: IdentityMetrics,
) {
    let mut tried: HashMap<u32, Instant> = HashMap::new();
    loop {
        let snapshot = Arc::clone(&demands.borrow_and_update());
        let now = Instant::now();
        tried.retain(|id, at| now - *at < AGAIN && snapshot.unused_identities.iter().any(|unused| unused.id == *id));
        let next = snapshot.unused_identities.iter().find(|unused| !tried.contains_key(&unused.id));
        if let Some(identity) = next.filter(|_| tenure.holds()) {
            tried.insert(identity.id, now);
            match registry.delete(identity).await {
                Ok(true) => {
                    metrics.deleted.inc();
                    info!(identity = identity.id, "identity deleted: nobody uses it");
                }
                Ok(false) => {}
                Err(error) => warn!(identity = identity.id, %error, "an identity that nobody uses cannot be deleted"),
            }
            tokio::time::sleep(PACE).await;
            continue;
        }
        tokio::select! {
            changed = demands.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
