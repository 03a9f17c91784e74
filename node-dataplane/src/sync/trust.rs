//! Whom a node trusts and where it looks: the ConfigMap that the leader keeps and the kubelet mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// What is wrong with the mounted folder.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("cannot read {}; the leading operator creates ConfigMap axoneme-operators", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA is no certificate.
    #[error("{} holds no usable CA certificate", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
    },
}

/// The mounted folder. Nothing is kept: the kubelet changes it.
#[derive(Clone, Debug)]
pub struct Operators {
    folder: PathBuf,
}

impl Operators {
    /// The folder with `ca.crt` and `operators`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Addresses of operators, "ip:port". None known is no error: a checkpoint may know some.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("operators")).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The CAs in `ca.crt` and those in `learned`, of which the operator told with the last certificate.
    ///
    /// # Errors
    /// When neither gives one.
    pub fn roots(&self, learned: Option<&str>) -> Result<RootCertStore, TrustError> {
        let path = self.folder.join("ca.crt");
        let mut roots = RootCertStore::empty();
        let learned = learned.map_or(0, |pem| add(&mut roots, pem.as_bytes()));
        match fs::read(&path) {
            Ok(pem) => {
                if add(&mut roots, &pem) + learned == 0 {
                    return Err(TrustError::Ca { path });
                }
            }
            Err(_) if learned > 0 => {}
            Err(source) => return Err(TrustError::Read { path, source }),
        }
        Ok(roots)
    }

    /// Where the CA is looked for, for messages.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> usize {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    roots.add_parsable_certificates(certificates).0
}
