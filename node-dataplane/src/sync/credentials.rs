//! The node's key and certificate. The key is made here and never leaves; both are kept, so that a restart needs no join.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axoneme_proto::nodesync::Certificate;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// What is wrong with the node's credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key cannot be made or a request not be signed with it.
    #[error("cannot make a key or request")]
    Key(#[from] rcgen::Error),
    /// What the operator sent is no certificate chain.
    #[error("the operator sent no usable certificate")]
    Certificate,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    chain_pem: String,
    ca_pem: String,
    renew_after_unix: i64,
}

/// Key, and certificate if there is one.
#[derive(Debug)]
pub struct Credentials {
    key: KeyPair,
    certificate_path: PathBuf,
    saved: Option<Saved>,
}

impl Credentials {
    /// Reads them from `folder`, or makes a key there.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let key_path = folder.join("node.key");
        let existing = fs::read_to_string(&key_path).ok().and_then(|pem| KeyPair::from_pem(&pem).ok());
        let key = match existing {
            Some(key) => key,
            None => {
                let key = KeyPair::generate()?;
                write(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let certificate_path = folder.join("node-certificate.json");
        let saved = fs::read(&certificate_path).ok().and_then(|json| serde_json::from_slice(&json).ok());
        Ok(Self { key, certificate_path, saved })
    }

    /// A request for a certificate of this key. Only its public key counts: the operator knows who the node is.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn request(&self) -> Result<Vec<u8>, CredentialsError> {
        let request = CertificateParams::default().serialize_request(&self.key)?;
        Ok(request.der().to_vec())
    }

    /// Keeps a certificate that the operator gave.
    ///
    /// # Errors
    /// When it is none, or cannot be written.
    pub fn store(&mut self, certificate: Certificate) -> Result<(), CredentialsError> {
        let Certificate { chain_pem, ca_pem, renew_after_unix } = certificate;
        if parse(&chain_pem).is_empty() {
            return Err(CredentialsError::Certificate);
        }
        let saved = Saved { chain_pem, ca_pem, renew_after_unix };
        let json = serde_json::to_vec(&saved).map_err(|err| self.io(err.into()))?;
        write(&self.certificate_path, &json)?;
        self.saved = Some(saved);
        Ok(())
    }

    /// The operator does not accept this certificate: the next attempt joins again.
    pub fn forget(&mut self) {
        self.saved = None;
        let _ = fs::remove_file(&self.certificate_path);
    }

    /// Certificate chain and key, if there is a certificate that may still be valid.
    #[must_use]
    pub fn client(&self) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = Some(parse(&self.saved.as_ref()?.chain_pem)).filter(|chain| !chain.is_empty())?;
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Some((chain, key.into()))
    }

    /// The CAs that came with the certificate.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.saved.as_ref().map(|saved| saved.ca_pem.as_str())
    }

    /// How long until a new certificate is to be asked for; zero if it is time.
    #[must_use]
    pub fn renew_in(&self) -> Duration {
        let Some(saved) = &self.saved else { return Duration::ZERO };
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(saved.renew_after_unix).unwrap_or(0));
        at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
    }

    fn io(&self, source: io::Error) -> CredentialsError {
        CredentialsError::Io { path: self.certificate_path.clone(), source }
    }
}

fn parse(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect()
}

/// Writes beside and renames over; readable by root alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CredentialsError> {
    let new = path.with_extension("new");
    let put = || {
        let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    put().map_err(|source| CredentialsError::Io { path: path.to_owned(), source })
}
