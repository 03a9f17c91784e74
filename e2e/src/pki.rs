//! Keys and certificates of a cluster: one authority, and a certificate for each component and node. They live as long as
//! the cluster's folder.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// The folder of a cluster's keys.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

/// Whom a certificate names.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// The common name: Kubernetes' user.
    pub user: &'a str,
    /// The organisation: Kubernetes' group.
    pub group: Option<&'a str>,
    /// Names it serves under.
    pub names: Vec<&'a str>,
    /// Addresses it serves under.
    pub addresses: Vec<IpAddr>,
}

impl Pki {
    /// The keys in `dir`; the authority and the key of service account tokens are made if there are none.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let pki = Self { dir: dir.into() };
        std::fs::create_dir_all(&pki.dir)?;
        if !pki.certificate("ca").exists() {
            let key = KeyPair::generate()?;
            let params = authority()?;
            write(&pki.key("ca"), &key.serialize_pem())?;
            write(&pki.certificate("ca"), &params.self_signed(&key)?.pem())?;
            let tokens = KeyPair::generate()?;
            write(&pki.key("service-accounts"), &tokens.serialize_pem())?;
            write(&pki.public_key("service-accounts"), &tokens.public_key_pem())?;
        }
        Ok(pki)
    }

    /// Makes a key and a certificate called `name`, unless there is one.
    pub fn issue(&self, name: &str, subject: &Subject<'_>) -> Result<()> {
        if self.certificate(name).exists() {
            return Ok(());
        }
        let authority_key =
            KeyPair::from_pem(&std::fs::read_to_string(self.key("ca"))?).context("the authority's key is broken")?;
        let issuer = Issuer::new(authority()?, authority_key);
        let mut params = CertificateParams::new(subject.names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        write(&self.key(name), &key.serialize_pem())?;
        write(&self.certificate(name), &params.signed_by(&key, &issuer)?.pem())
    }

    /// The file of a certificate.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    /// The file of a private key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// The file of a public key.
    pub fn public_key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pub"))
    }

    /// Writes a kubeconfig for the certificate called `name`. It holds the keys themselves, so it can be copied elsewhere.
    pub fn kubeconfig(&self, file: &Path, cluster: &str, name: &str, server: &str) -> Result<()> {
        let data = |path: PathBuf| -> Result<String> { Ok(base64(&std::fs::read(path)?)) };
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {
                "server": server,
                "certificate-authority-data": data(self.certificate("ca"))?,
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": data(self.certificate(name))?,
                "client-key-data": data(self.key(name))?,
            }}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": name}}],
            "current-context": cluster,
        });
        write(file, &serde_yaml::to_string(&config)?)
    }
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "axoneme-e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn write(file: &Path, content: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// RFC 4648 base64 with padding: kubeconfigs want it around PEM, and nothing else here does.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let index = (word >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() { ALPHABET[index as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_rfc() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn certificates_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let subject = Subject { user: "admin", group: Some("system:masters"), ..Subject::default() };
        pki.issue("admin", &subject).unwrap();
        let first = std::fs::read(pki.certificate("admin")).unwrap();
        pki.issue("admin", &subject).unwrap();
        assert_eq!(first, std::fs::read(pki.certificate("admin")).unwrap());
    }
}
