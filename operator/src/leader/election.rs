//! The election.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::lease::{self, RENEW_DEADLINE, RETRY, Step, Watcher};

/// Name of the Lease.
pub const LEASE: &str = "axoneme-operator";

/// An attempt that takes longer has failed.
const ATTEMPT: Duration = Duration::from_secs(4);

/// Why a leader must stop at once.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else holds the Lease.
    #[error("{0} holds the Lease now")]
    Taken(String),
    /// The Lease could not be renewed in time.
    #[error("the Lease could not be renewed for {} s", RENEW_DEADLINE.as_secs())]
    Deadline,
}

/// Whether this process leads at this moment. Asked immediately before every write that only a leader may do: a process that
/// was stopped for a while and goes on must not finish what it had begun.
#[derive(Clone, Debug)]
pub struct Tenure(watch::Receiver<Instant>);

impl Tenure {
    /// Whether the Lease was renewed recently enough that nobody else can have it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.borrow().elapsed() < RENEW_DEADLINE
    }

    /// A leader that was just elected and never renews.
    #[cfg(test)]
    pub(crate) fn fresh() -> Self {
        Self(watch::channel(Instant::now()).1)
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("no answer for {} s", ATTEMPT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

impl Failed {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists())
    }
}

/// Wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    watcher: Watcher,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Leads, as long as [`Held::keep`] has not returned.
pub struct Held {
    candidate: Candidate,
    lease: Lease,
    renewed: watch::Sender<Instant>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("identity", &self.candidate.identity).finish_non_exhaustive()
    }
}

impl Candidate {
    /// A candidate for the Lease in `namespace`. `identity` must be unique to this process, not only to its pod: a pod's
    /// container that was started twice must not lead twice.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, watcher: Watcher::new(identity.clone()), identity }
    }

    /// Waits until this process leads; says who does until then.
    pub async fn lead(mut self, mut standing_by: impl FnMut(&str)) -> Held {
        loop {
            match self.attempt().await {
                Ok(Ok((lease, renewed))) => {
                    info!(identity = self.identity, "leading");
                    return Held { candidate: self, lease, renewed: watch::Sender::new(renewed) };
                }
                Ok(Err(holder)) => standing_by(&holder),
                Err(error) if error.is_conflict() => debug!("another candidate was faster"),
                Err(error) => warn!(%error, "the Lease cannot be read or written"),
            }
            // Not all candidates at the same moment.
            let jitter = RETRY.mul_f64(f64::from(std::process::id() % 8) / 40.0);
            tokio::time::sleep(RETRY + jitter).await;
        }
    }

    /// One attempt: the Lease that is held now, or who holds it.
    async fn attempt(&mut self) -> Result<Result<(Lease, Instant), String>, Failed> {
        let found = tokio::time::timeout(ATTEMPT, self.api.get_opt(LEASE)).await??;
        // Measured before the write: others count from when they see it.
        let now = Instant::now();
        let step = self.watcher.observe(found.as_ref(), now);
        if let Step::Wait { holder } = step {
            return Ok(Err(holder));
        }
        let lease = lease::held(LEASE, &self.identity, found.as_ref(), Timestamp::now());
        let written = match step {
            Step::Create => tokio::time::timeout(ATTEMPT, self.api.create(&PostParams::default(), &lease)).await??,
            _ => tokio::time::timeout(ATTEMPT, self.api.replace(LEASE, &PostParams::default(), &lease)).await??,
        };
        Ok(Ok((written, now)))
    }
}

impl Held {
    /// For writers.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        Tenure(self.renewed.subscribe())
    }

    /// Renews the Lease until that fails for too long or somebody else has it.
    pub async fn keep(&mut self) -> Lost {
        loop {
            tokio::time::sleep(RETRY).await;
            let now = Instant::now();
            let deadline = *self.renewed.borrow() + RENEW_DEADLINE;
            if now >= deadline {
                return Lost::Deadline;
            }
            match tokio::time::timeout(deadline - now, self.renew()).await {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    self.renewed.send_replace(now);
                }
                Ok(Err(error)) if error.is_conflict() => match self.read_again().await {
                    Some(lost) => return lost,
                    None => debug!("the Lease was touched by somebody else"),
                },
                Ok(Err(error)) => warn!(%error, "the Lease cannot be renewed"),
                Err(_) => return Lost::Deadline,
            }
        }
    }

    async fn renew(&self) -> Result<Lease, Failed> {
        let lease = lease::held(LEASE, &self.candidate.identity, Some(&self.lease), Timestamp::now());
        let params = PostParams::default();
        let replaced = self.candidate.api.replace(LEASE, &params, &lease);
        Ok(tokio::time::timeout(ATTEMPT, replaced).await??)
    }

    /// After a conflict: a leader stays one if the Lease still names it (somebody else added a label).
    async fn read_again(&mut self) -> Option<Lost> {
        match tokio::time::timeout(ATTEMPT, self.candidate.api.get_opt(LEASE)).await {
            Ok(Ok(Some(lease))) => {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
                if holder == self.candidate.identity {
                    self.lease = lease;
                    return None;
                }
                Some(Lost::Taken(holder))
            }
            Ok(Ok(None)) => Some(Lost::Taken("nobody".into())),
            _ => None,
        }
    }

    /// Gives the Lease away, so that the next leader need not wait. Best effort.
    pub async fn release(self) {
        let lease = lease::released(&self.lease, Timestamp::now());
        let params = PostParams::default();
        let replaced = self.candidate.api.replace(LEASE, &params, &lease);
        match tokio::time::timeout(ATTEMPT, replaced).await {
            Ok(Ok(_)) => info!("the Lease is released"),
            Ok(Err(error)) => warn!(%error, "the Lease could not be released"),
            Err(_) => warn!("the Lease could not be released in time"),
        }
    }
}
