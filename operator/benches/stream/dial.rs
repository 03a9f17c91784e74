//! How a node comes to the operator: by a token to a certificate, and with that to a session.

use std::sync::Arc;

use anyhow::{Context, Result};
use axoneme_proto::OPERATOR_SERVER_NAME;
use axoneme_proto::nodesync::JoinRequest;
use axoneme_proto::nodesync::node_sync_client::NodeSyncClient;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// As the daemon has them.
const WINDOWS: (u32, u32) = (256 << 10, 384 << 10);

fn tls(ca: &str, identity: Option<(&str, &KeyPair)>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

pub async fn dial(address: &str, tls: ClientConfig) -> Result<NodeSyncClient<Channel>> {
    let (address, tls) = (address.to_owned(), tokio_rustls::TlsConnector::from(Arc::new(tls)));
    let connector = tower::service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(OPERATOR_SERVER_NAME).map_err(std::io::Error::other)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://operator");
    let endpoint = endpoint.initial_stream_window_size(WINDOWS.0).initial_connection_window_size(WINDOWS.1);
    Ok(NodeSyncClient::new(endpoint.connect_with_connector(connector).await?).max_decoding_message_size(4 << 20))
}

/// Trades a token for a certificate.
pub async fn join(address: &str, ca: &str, token: String) -> Result<ClientConfig> {
    let key = KeyPair::generate()?;
    let csr_der = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let mut client = dial(address, tls(ca, None)?).await?;
    let answer = client.join(JoinRequest { token, csr_der }).await?.into_inner();
    let certificate = answer.certificate.context("no certificate")?;
    tls(ca, Some((&certificate.chain_pem, &key)))
}
