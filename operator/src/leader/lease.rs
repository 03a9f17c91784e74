//! Whether a Lease may be taken, decided by how long it has not changed here: clocks of machines are never compared.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

/// Others may take the Lease when it has not been renewed for this long.
pub const DURATION: Duration = Duration::from_secs(15);

/// A holder that has not renewed for this long gives up, well before others take over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Between two attempts.
pub const RETRY: Duration = Duration::from_secs(2);

/// What a candidate does with the Lease that it read.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none.
    Create,
    /// It may be taken, guarded by the resourceVersion that was read.
    Take,
    /// Somebody holds it.
    Wait {
        /// Who.
        holder: String,
    },
}

/// A candidate's memory of the Lease.
#[derive(Debug)]
pub struct Watcher {
    identity: String,
    seen: Option<(String, Instant)>,
}

impl Watcher {
    /// `identity` must be unique to this process.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None }
    }

    /// Judges what was read at `now`.
    pub fn observe(&mut self, lease: Option<&Lease>, now: Instant) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return Step::Take;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        if now.duration_since(since) >= duration { Step::Take } else { Step::Wait { holder } }
    }
}

/// The Lease as its holder writes it. `former` is what was read: its resourceVersion guards the write.
pub fn held(name: &str, identity: &str, former: Option<&Lease>, now: Timestamp) -> Lease {
    let old = former.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let ours = old.holder_identity.as_deref() == Some(identity);
    let transitions = old.lease_transitions.unwrap_or(0) + i32::from(former.is_some() && !ours);
    let metadata = match former {
        Some(lease) => ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
        None => ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
    };
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if ours { old.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..old
    };
    Lease { metadata, spec: Some(spec) }
}

/// The Lease as its holder leaves it: free at once.
pub fn released(lease: &Lease, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        let mut lease = held("l", holder, None, Timestamp::UNIX_EPOCH);
        lease.metadata.resource_version = Some(version.into());
        lease
    }

    #[test]
    fn a_lease_is_taken_only_after_it_has_not_changed_here_for_its_duration() {
        let (mut watcher, start) = (Watcher::new("me".into()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = || Step::Wait { holder: "other".into() };
        assert_eq!(watcher.observe(None, at(0)), Step::Create);
        assert_eq!(watcher.observe(Some(&lease("other", "1")), at(0)), wait());
        assert_eq!(watcher.observe(Some(&lease("other", "1")), at(14)), wait());
        assert_eq!(watcher.observe(Some(&lease("other", "2")), at(15)), wait(), "renewed");
        assert_eq!(watcher.observe(Some(&lease("other", "2")), at(29)), wait());
        assert_eq!(watcher.observe(Some(&lease("other", "2")), at(30)), Step::Take);
        assert_eq!(watcher.observe(Some(&lease("", "3")), at(30)), Step::Take, "released");
    }

    #[test]
    fn the_same_pod_started_twice_is_two_candidates() {
        let mut second = Watcher::new("pod_b".into());
        let step = second.observe(Some(&lease("pod_a", "1")), Instant::now());
        assert_eq!(step, Step::Wait { holder: "pod_a".into() });
    }

    #[test]
    fn writes_carry_what_was_read() {
        let now = Timestamp::from_second(1000).unwrap();
        let taken = held("l", "me", Some(&lease("other", "7")), now);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        let spec = taken.spec.clone().unwrap();
        assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(15)));
        assert_eq!(spec.acquire_time, Some(MicroTime(now)));
        let renewed = held("l", "me", Some(&taken), Timestamp::from_second(1002).unwrap()).spec.unwrap();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(1), Some(MicroTime(now))));
        let free = released(&taken, now).spec.unwrap();
        assert_eq!((free.holder_identity.as_deref(), free.lease_duration_seconds), (Some(""), Some(1)));
    }
}
