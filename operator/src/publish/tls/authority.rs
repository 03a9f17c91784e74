//! The cluster's own certificate authority.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::OPERATOR_SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject,
};
use time::OffsetDateTime;

use super::NodeName;

/// How long the operator's server certificate is valid. A process issues itself a new one at start and once a day.
pub const SERVER_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// The CA is replaced by hand long before.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Clocks of nodes may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What is wrong with the CA or a request to it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret's certificate or key is no PEM, or they are not a CA's.
    #[error("the CA's certificate or key cannot be used: {0}")]
    Unusable(&'static str),
    /// A certificate could not be built or signed.
    #[error("the CA cannot sign")]
    Sign(#[source] rcgen::Error),
    /// A request of a node that is no PKCS#10, or is not signed by its own key.
    #[error("not a valid certificate request")]
    Request(#[source] rcgen::Error),
    /// A Node name that does not fit into a certificate.
    #[error("the node's name cannot stand in a certificate: {0:?}")]
    Name(String),
    /// TLS does not take the certificate.
    #[error("the operator's certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// The CA with its key. Its `Debug` says nothing about the key.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    certificate: CertificateDer<'static>,
    /// Its own, and those of others that are trusted as well.
    trusted: Vec<CertificateDer<'static>>,
    trusted_pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA: its certificate and its key, both PEM.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("axoneme-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_until(&mut params, OffsetDateTime::now_utc() + CA_LIFETIME);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The CA of a certificate and its key, both PEM.
    ///
    /// # Errors
    /// When they are not, or do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let key =
            KeyPair::from_pem(key_pem).map_err(|_| AuthorityError::Unusable("tls.key is no private key in PEM"))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::Unusable("tls.crt is no certificate in PEM"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| AuthorityError::Unusable("tls.crt is no X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(AuthorityError::Unusable("tls.crt is not a CA's certificate"));
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(AuthorityError::Unusable("tls.key is not the key of tls.crt"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| AuthorityError::Unusable("tls.crt cannot issue certificates"))?;
        let trusted = vec![certificate.clone()];
        Ok(Self { issuer: Arc::new(issuer), certificate, trusted, trusted_pem: certificate_pem.to_owned() })
    }

    /// The CAs in `pem` are trusted, too: the one before this one, or the one to come. This one signs.
    ///
    /// # Errors
    /// When something in it is no CA's certificate.
    pub fn trusting(mut self, pem: &str) -> Result<Self, AuthorityError> {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let unusable = || AuthorityError::Unusable("trusted.crt holds something that is no CA's certificate");
            let certificate = certificate.map_err(|_| unusable())?;
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| unusable())?;
            if !parsed.is_ca() {
                return Err(unusable());
            }
            if !self.trusted.contains(&certificate) {
                self.trusted.push(certificate);
            }
        }
        self.trusted_pem = format!("{}\n{}", self.trusted_pem.trim_end(), pem);
        Ok(self)
    }

    /// The certificates of all CAs that nodes trust, PEM.
    #[must_use]
    pub fn trusted_pem(&self) -> &str {
        &self.trusted_pem
    }

    /// Those certificates.
    #[must_use]
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A server certificate of the operator with a key that never leaves the process.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn issue_server(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Sign)?;
        let mut params = CertificateParams::new(vec![OPERATOR_SERVER_NAME.to_owned()]).map_err(AuthorityError::Sign)?;
        params.distinguished_name = common_name(OPERATOR_SERVER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf(&mut params, OffsetDateTime::now_utc() + SERVER_CERTIFICATE_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone()], key.into()))
    }

    /// A client certificate of `node` for the public key in `csr_der`; nothing else of the request is used.
    ///
    /// # Errors
    /// When the request is not valid or cannot be signed.
    pub fn issue_node(&self, csr_der: &[u8], node: &NodeName, lifetime: Duration) -> Result<String, AuthorityError> {
        self.issue_node_until(csr_der, node, OffsetDateTime::now_utc() + lifetime)
    }

    /// As [`Authority::issue_node`], valid until a point in time.
    pub(super) fn issue_node_until(
        &self,
        csr_der: &[u8],
        node: &NodeName,
        until: OffsetDateTime,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(AuthorityError::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&node.name);
        let uri = node.uri().try_into().map_err(|_| AuthorityError::Name(node.name.clone()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf(&mut params, until);
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(certificate.pem())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn leaf(params: &mut CertificateParams, until: OffsetDateTime) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    valid_until(params, until);
}

fn valid_until(params: &mut CertificateParams, until: OffsetDateTime) {
    params.not_before = OffsetDateTime::now_utc() - CLOCK_SKEW;
    params.not_after = until;
}
