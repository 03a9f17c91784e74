//! Another operator that manages the same objects: Cilium's own.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};

/// The Lease of Cilium's operator.
pub const RIVAL_LEASE: &str = "cilium-operator-resource-lock";

/// A holder that crashed stops blocking after this many lease durations, counted by our clock: wide, as clocks differ.
const GRACE: u32 = 4;

/// A live holder of [`RIVAL_LEASE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{holder} holds Lease {namespace}/{RIVAL_LEASE}: two operators must not manage the same network; remove Cilium's first"
)]
pub struct Rival {
    /// Where the Lease is.
    pub namespace: String,
    /// Who holds it.
    pub holder: String,
}

/// Looks for a live rival in `namespace` and in `kube-system`, where Cilium usually is.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn rival(client: &Client, namespace: &str) -> Result<Option<Rival>, kube::Error> {
    let mut namespaces = vec![namespace, "kube-system"];
    namespaces.dedup();
    for namespace in namespaces {
        let lease = match Api::<Lease>::namespaced(client.clone(), namespace).get_opt(RIVAL_LEASE).await {
            // Installed elsewhere, this operator may not look there.
            Err(kube::Error::Api(status)) if status.is_forbidden() => continue,
            lease => lease?,
        };
        if let Some(holder) = lease.and_then(|lease| live_holder(&lease, Timestamp::now())) {
            return Ok(Some(Rival { namespace: namespace.to_owned(), holder }));
        }
    }
    Ok(None)
}

fn live_holder(lease: &Lease, now: Timestamp) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    let renewed = spec.renew_time.as_ref().or(spec.acquire_time.as_ref())?.0;
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(15);
    let age = Duration::try_from(now.duration_since(renewed)).unwrap_or(Duration::ZERO);
    (age <= Duration::from_secs(seconds) * GRACE).then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::lease::held;

    #[test]
    fn only_a_holder_that_renews_is_one() {
        let lease = held(RIVAL_LEASE, "cilium-1", None, Timestamp::from_second(1_000).unwrap());
        let at = |seconds| live_holder(&lease, Timestamp::from_second(seconds).unwrap());
        assert_eq!(at(1_010).as_deref(), Some("cilium-1"));
        assert_eq!(at(900).as_deref(), Some("cilium-1"), "its clock is ahead");
        assert_eq!(at(1_061), None, "dead");
        let released = crate::leader::lease::released(&lease, Timestamp::from_second(1_000).unwrap());
        assert_eq!(live_holder(&released, Timestamp::from_second(1_000).unwrap()), None);
    }
}
