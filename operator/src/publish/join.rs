//! Trust in a node: its DaemonSet pod's bound token becomes a short-lived client certificate.
//!
//! The API server vouches for the token (TokenReview) and for the node it is bound to; the certificate carries the Node's UID,
//! so that a Node that was deleted and created again has to join again. Neither token nor key is ever logged.

mod kubernetes;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::nodesync::Certificate;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tonic::Status;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

pub use kubernetes::KubernetesVouch;

use super::tls::{Authority, AuthorityError, NodeName};

/// Joins at the same time: after a restart of a large cluster's nodes the API server is not asked by all of them at once.
const JOINS: usize = 32;

/// A bound token is a few kilobytes at most.
const MAX_TOKEN: usize = 16 * 1024;

/// A PKCS#10 of one key is a few hundred bytes.
const MAX_CSR: usize = 8 * 1024;

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why a node does not get a certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The API server does not know the token, or it is for somebody else.
    #[error("the token is not valid for the audience axoneme-operator")]
    Token,
    /// A valid token of somebody who is no node daemon.
    #[error("{username} is no node daemon: only {expected} may join")]
    User {
        /// Whose token it is.
        username: String,
        /// Whose it should be.
        expected: String,
    },
    /// A token that is not bound to a pod on a node.
    #[error("the token is not bound to a pod and its node ({0} is missing)")]
    Unbound(&'static str),
    /// The Node is gone or is another one of the same name.
    #[error("node {0} does not exist any more with this UID")]
    NodeGone(String),
    /// Not a request for a certificate.
    #[error(transparent)]
    Request(AuthorityError),
    /// The CA does not work.
    #[error(transparent)]
    Authority(AuthorityError),
    /// The API server does not answer.
    #[error("the API server cannot be asked")]
    Unavailable(#[source] kube::Error),
}

impl From<JoinError> for Status {
    fn from(error: JoinError) -> Self {
        let text = error.to_string();
        match error {
            JoinError::Token => Self::unauthenticated(text),
            JoinError::User { .. } | JoinError::Unbound(_) | JoinError::NodeGone(_) => Self::permission_denied(text),
            JoinError::Request(_) => Self::invalid_argument(text),
            JoinError::Authority(_) => Self::internal(text),
            JoinError::Unavailable(_) => Self::unavailable(text),
        }
    }
}

/// What the API server says about a token.
#[derive(Clone, Debug, Default)]
pub struct TokenVerdict {
    /// It is valid, for the right audience.
    pub authenticated: bool,
    /// Whose it is.
    pub username: String,
    /// What it is bound to: the first value of each of the user's extra keys.
    pub extra: Vec<(String, String)>,
}

/// The API server, as far as it vouches for nodes.
pub trait Vouch: Send + Sync + 'static {
    /// Reviews a token for the audience `axoneme-operator`.
    fn token(&self, token: &str) -> impl Future<Output = Result<TokenVerdict, kube::Error>> + Send;

    /// UID of the Node of that name, if there is one.
    fn node_uid(&self, name: &str) -> impl Future<Output = Result<Option<String>, kube::Error>> + Send;
}

/// Gives certificates to nodes.
#[derive(Debug)]
pub struct Registrar<V> {
    vouch: V,
    authority: watch::Receiver<Authority>,
    username: String,
    lifetime: Duration,
    joins: Arc<Semaphore>,
}

impl<V: Vouch> Registrar<V> {
    /// `service_account` in `namespace` is who node daemons are; a certificate is valid for `lifetime`.
    #[must_use]
    pub fn new(vouch: V, authority: Authority, namespace: &str, service_account: &str, lifetime: Duration) -> Self {
        let authority = watch::Sender::new(authority).subscribe();
        let username = format!("system:serviceaccount:{namespace}:{service_account}");
        Self { vouch, authority, username, lifetime, joins: Arc::new(Semaphore::new(JOINS)) }
    }

    /// Signs with whoever is the CA from now on.
    #[must_use]
    pub fn following(self, authority: watch::Receiver<Authority>) -> Self {
        Self { authority, ..self }
    }

    /// Trades a token for a certificate.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join(&self, token: &str, csr_der: &[u8]) -> Result<Certificate, JoinError> {
        // What the token is, nobody needs to know; why it was refused, whoever looks for a node that does not come up does.
        self.try_join(token, csr_der).await.inspect_err(|error| warn!(%error, "a join was refused"))
    }

    async fn try_join(&self, token: &str, csr_der: &[u8]) -> Result<Certificate, JoinError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(JoinError::Token);
        }
        let _permit = self.joins.acquire().await.map_err(|_| JoinError::Token)?;
        let verdict = self.vouch.token(token).await.map_err(JoinError::Unavailable)?;
        let node = self.bound_node(verdict)?;
        self.alive(&node).await?;
        let certificate = self.issue(csr_der, &node)?;
        info!(node = node.name, uid = node.uid, "node joined");
        Ok(certificate)
    }

    /// A new certificate for a node that proved who it is by its present one.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn renew(&self, node: &NodeName, csr_der: &[u8]) -> Result<Certificate, JoinError> {
        self.alive(node).await?;
        self.issue(csr_der, node)
    }

    /// Whether the Node still exists with the UID of its certificate.
    ///
    /// # Errors
    /// When it does not, or the API server cannot say.
    pub async fn alive(&self, node: &NodeName) -> Result<(), JoinError> {
        let uid = self.vouch.node_uid(&node.name).await.map_err(JoinError::Unavailable)?;
        if uid.as_ref() == Some(&node.uid) {
            return Ok(());
        }
        warn!(node = node.name, uid = node.uid, live = uid, "certificate or token of a Node that is gone");
        Err(JoinError::NodeGone(node.name.clone()))
    }

    /// As [`Registrar::alive`], but an API server that is away keeps no node away: its certificate is still valid, and the
    /// engine knows the Node.
    ///
    /// # Errors
    /// When the Node does not exist any more.
    pub async fn not_gone(&self, node: &NodeName) -> Result<(), JoinError> {
        match self.alive(node).await {
            Err(error @ JoinError::Unavailable(_)) => {
                warn!(node = node.name, %error, "the Node's UID cannot be checked now");
                Ok(())
            }
            checked => checked,
        }
    }

    fn bound_node(&self, verdict: TokenVerdict) -> Result<NodeName, JoinError> {
        if !verdict.authenticated {
            return Err(JoinError::Token);
        }
        if verdict.username != self.username {
            return Err(JoinError::User { username: verdict.username, expected: self.username.clone() });
        }
        let extra = |key: &'static str| {
            let found = verdict.extra.iter().find(|(name, value)| name == key && !value.is_empty());
            found.map(|(_, value)| value.clone()).ok_or(JoinError::Unbound(key))
        };
        // The API server has checked that the pod lives; a token without one is not a DaemonSet pod's.
        extra(POD_NAME)?;
        extra(POD_UID)?;
        Ok(NodeName { name: extra(NODE_NAME)?, uid: extra(NODE_UID)? })
    }

    fn issue(&self, csr_der: &[u8], node: &NodeName) -> Result<Certificate, JoinError> {
        if csr_der.len() > MAX_CSR {
            return Err(JoinError::Request(AuthorityError::Unusable("the certificate request is too long")));
        }
        let authority = self.authority.borrow().clone();
        let chain_pem = authority.issue_node(csr_der, node, self.lifetime).map_err(|error| match error {
            AuthorityError::Request(_) => JoinError::Request(error),
            error => JoinError::Authority(error),
        })?;
        let renew_after = OffsetDateTime::now_utc() + renewal(&node.name, self.lifetime);
        Ok(Certificate {
            chain_pem,
            ca_pem: authority.trusted_pem().to_owned(),
            renew_after_unix: renew_after.unix_timestamp(),
        })
    }
}

/// When a node renews: between half and two thirds of the lifetime, each at a moment of its own, because nodes that joined
/// together would otherwise renew together for ever.
fn renewal(node: &str, lifetime: Duration) -> Duration {
    let share = (xxh3_64(node.as_bytes()) >> 40) as u32;
    lifetime / 2 + lifetime / 6 * share / (1 << 24)
}

#[cfg(test)]
mod tests;
