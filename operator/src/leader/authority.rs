//! The CA's Secret: created once by the first leader, never overwritten. Deleting it is how a user asks for a new CA.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tracing::info;

use crate::publish::tls::{Authority, AuthorityError};

/// Name of the Secret: `tls.crt` and `tls.key`, PEM.
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
            return Ok(Authority::from_pem(&text(&secret, "tls.crt")?, &text(&secret, "tls.key")?)?);
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

fn text(secret: &Secret, key: &'static str) -> Result<String, CaError> {
    let data: &BTreeMap<_, _> = secret.data.as_ref().ok_or(CaError::Missing(key))?;
    let bytes = data.get(key).ok_or(CaError::Missing(key))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| CaError::Unusable(AuthorityError::Unusable("it is not PEM")))
}
