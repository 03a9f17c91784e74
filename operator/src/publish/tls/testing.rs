//! Certificates for tests.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Authority, NodeName};

/// A new CA.
pub(crate) fn authority() -> Authority {
    let (certificate, key) = Authority::generate().unwrap();
    Authority::from_pem(&certificate, &key).unwrap()
}

/// A node's key and its request; the names in the request are a lie on purpose.
pub(crate) fn key_and_csr() -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["operator.axoneme.internal".to_owned()]).unwrap();
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    (key, csr)
}

/// A certificate that was valid until a minute ago.
pub(crate) fn expired(authority: &Authority, csr: &[u8], node: &NodeName) -> String {
    let until = time::OffsetDateTime::now_utc() - std::time::Duration::from_secs(60);
    authority.issue_node_until(csr, node, until).unwrap()
}

/// A client that trusts `trusted` and shows `identity` (chain in PEM and key).
pub(crate) fn client(trusted: &Authority, identity: Option<(&str, &KeyPair)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    trusted.trusted().iter().for_each(|certificate| roots.add(certificate.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
