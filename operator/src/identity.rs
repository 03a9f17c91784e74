//! Numbers for label sets: demands become `CiliumIdentity` objects.
//!
//! A number is probed from a hash of the label set, so two leaders that decide at the same time choose the same number for the
//! same labels and the loser of the creation adopts what the winner made. Nothing here is used by the compiler: it sees the
//! echo of the watch.
//!
//! One that somebody deletes while pods use it is made anew with the same number, and its pods keep it meanwhile. What nobody uses any more, and every node has forgotten, is deleted ([`collect_identities`]).

mod allocate;
mod collect;
mod number;
mod registry;
mod reserved;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metrics;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

pub use allocate::{AllocateError, Allocated};
pub use collect::collect_identities;
pub use registry::{Created, KubernetesRegistry, Registry};
pub use reserved::{RESERVED_NAMES, Reserved, USER_RESERVED};

use crate::engine::{Demands, IdentityDemand};
use crate::leader::Tenure;
use crate::object::Labels;

/// Creations at the same time.
const CONCURRENT: usize = 32;

/// The first and the longest pause before a failed one is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A demand that is still there so long after it was met is looked at again: somebody deleted the identity.
const ECHO: Duration = Duration::from_secs(10);

/// Counts of identity allocation.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    created: Counter,
    adopted: Counter,
    failed: Counter,
    waiting: Gauge,
    deleted: Counter,
}

impl IdentityMetrics {
    /// Registers them; `metrics` carries the prefix.
    pub fn register(metrics: &mut Metrics) -> Self {
        let own = Self::default();
        metrics.register("identities_created", "CiliumIdentities created by this operator", own.created.clone());
        metrics.register("identities_adopted", "Label sets found to have an identity already", own.adopted.clone());
        metrics.register("identity_allocation_failures", "Failed attempts to create one", own.failed.clone());
        metrics.register("identities_waiting", "Label sets of pods without an identity", own.waiting.clone());
        metrics.register("identities_deleted", "Identities that nobody used any more", own.deleted.clone());
        own
    }
}

enum State {
    InFlight,
    /// Done; the echo is awaited until then.
    Done(Instant),
    /// Failed this often; tried again then.
    Failed(u32, Instant),
}

/// Meets demands for identities for as long as there is an engine.
pub async fn allocate_identities<R: Registry>(
    mut demands: watch::Receiver<Arc<Demands>>,
    registry: R,
    cluster_id: u32,
    tenure: Tenure,
    metrics: IdentityMetrics,
) {
    let registry = Arc::new(registry);
    let permits = Arc::new(Semaphore::new(CONCURRENT));
    let mut states: HashMap<Arc<Labels>, State> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let snapshot = Arc::clone(&demands.borrow_and_update());
        metrics.waiting.set(i64::try_from(snapshot.identities.len()).unwrap_or(i64::MAX));
        let demanded: HashSet<&Arc<Labels>> = snapshot.identities.iter().map(|demand| &demand.labels).collect();
        states.retain(|labels, state| demanded.contains(labels) || matches!(state, State::InFlight));
        let now = Instant::now();
        let mut wake = now + RETRY.1;
        for demand in &snapshot.identities {
            let failures = match states.get(&demand.labels) {
                None => 0,
                Some(State::InFlight) => continue,
                Some(State::Done(until) | State::Failed(_, until)) if *until > now => {
                    wake = wake.min(*until);
                    continue;
                }
                Some(State::Done(_)) => 0,
                Some(State::Failed(failures, _)) => *failures,
            };
            states.insert(Arc::clone(&demand.labels), State::InFlight);
            let (registry, permits, tenure) = (Arc::clone(&registry), Arc::clone(&permits), tenure.clone());
            let demand = demand.clone();
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let result = allocate::allocate(&*registry, &demand.labels, demand.lost, cluster_id, &tenure).await;
                (demand, failures, result)
            });
        }
        tokio::select! {
            changed = demands.changed() => if changed.is_err() { return },
            Some(Ok((demand, failures, result))) = tasks.join_next() => {
                let state = settled(&demand, failures, result, &metrics);
                states.insert(demand.labels, state);
            }
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

/// What came of an attempt that `failures` others had preceded.
fn settled(
    demand: &IdentityDemand,
    failures: u32,
    result: Result<Allocated, AllocateError>,
    metrics: &IdentityMetrics,
) -> State {
    match result {
        Ok(allocated) => {
            let (counter, how) = match allocated {
                Allocated::Created(id) if demand.lost == Some(id) => {
                    (&metrics.created, "made anew: somebody had deleted it")
                }
                Allocated::Created(_) => (&metrics.created, "created"),
                Allocated::Adopted(_) => (&metrics.adopted, "adopted"),
            };
            counter.inc();
            info!(identity = allocated.id(), pod = %demand.pod, how, "identity allocated");
            State::Done(Instant::now() + ECHO)
        }
        Err(error) => {
            metrics.failed.inc();
            warn!(pod = %demand.pod, labels = ?demand.labels, %error, "no identity");
            let pause = RETRY.0.saturating_mul(1 << failures.min(10)).min(RETRY.1);
            State::Failed(failures + 1, Instant::now() + pause)
        }
    }
}
