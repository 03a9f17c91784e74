//! The CA's Secret: created once by the first leader, never overwritten. A user replaces the CA in three steps, each of which the
//! leader follows within [`CA_INTERVAL`]: the new certificate into `trusted.crt`, until every node has it; then the new pair into
//! `tls.crt` and `tls.key` and the old certificate into `trusted.crt`, until every node's certificate is of the new one; then
//! `trusted.crt` out. No session ends. Deleting the Secret is how a user asks for a new CA at once, with a new leader.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::publish::tls::{Authority, AuthorityError};

/// How often the Secret is looked at.
pub const CA_INTERVAL: Duration = Duration::from_secs(30);

/// Name of the Secret: `tls.crt` and `tls.key`, PEM, and where there is another CA to be trusted, its certificate in
/// `trusted.crt`.
pub const CA_SECRET: &str = "axoneme-ca";

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The Secret cannot be read or created.
    #[error("Secret {CA_SECRET} cannot be read or created")]
    Api(#[from] kube::Error),
    /// It lacks a key. It is left as it is: it may be a user's own.
    #[error("Secret {CA_SECRET} has no {0}; complete or delete it")]
    Missing(&'static str),
    /// What is in it is no CA.
    #[error("Secret {CA_SECRET} cannot be used; correct or delete it")]
    Unusable(#[from] AuthorityError),
}

/// The CA of the Secret in `namespace`; creates it when there is none.
///
/// # Errors
/// See [`CaError`].
pub async fn ensure_authority(client: &Client, namespace: &str) -> Result<Authority, CaError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    loop {
        if let Some(secret) = api.get_opt(CA_SECRET).await? {
            return authority(&secret);
        }
        let (certificate, key) = Authority::generate()?;
        let data = [("tls.crt", certificate), ("tls.key", key)];
        let secret = Secret {
            metadata: ObjectMeta { name: Some(CA_SECRET.to_owned()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data.map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes()))).into()),
            ..Secret::default()
        };
        match api.create(&PostParams::default(), &secret).await {
            Ok(_) => info!(secret = CA_SECRET, "a new CA was created"),
            // Read what the other one made.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells `known` when there is another CA, or another one that is trusted; looks `every` so often. What cannot be used changes
/// nothing.
pub async fn follow_authority(client: Client, namespace: String, every: Duration, known: watch::Sender<Authority>) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let mut said = String::new();
    loop {
        tokio::time::sleep(every).await;
        let found = match api.get_opt(CA_SECRET).await {
            Ok(Some(secret)) => authority(&secret),
            // Whoever deletes it means the next leader.
            Ok(None) => continue,
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(found) => {
                said.clear();
                known.send_if_modified(|known| {
                    let changed = known.trusted() != found.trusted();
                    if changed {
                        info!(trusted = found.trusted().len(), "the CA has changed");
                        *known = found;
                    }
                    changed
                });
            }
            Err(error) if error.to_string() != said => {
                warn!(error = &error as &dyn std::error::Error, "the CA stays as it is");
                said = error.to_string();
            }
            Err(_) => {}
        }
    }
}

fn authority(secret: &Secret) -> Result<Authority, CaError> {
    let authority = Authority::from_pem(&text(secret, "tls.crt")?, &text(secret, "tls.key")?)?;
    match text(secret, "trusted.crt") {
        Ok(pem) => Ok(authority.trusting(&pem)?),
        Err(CaError::Missing(_)) => Ok(authority),
        Err(error) => Err(error),
    }
}

fn text(secret: &Secret, key: &'static str) -> Result<String, CaError> {
    let data: &BTreeMap<_, _> = secret.data.as_ref().ok_or(CaError::Missing(key))?;
    let bytes = data.get(key).ok_or(CaError::Missing(key))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| CaError::Unusable(AuthorityError::Unusable("it is not PEM")))
}
