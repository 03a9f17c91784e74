//! Connections to an operator: by address, with its fixed server name verified against the mounted CA.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axoneme_proto::OPERATOR_SERVER_NAME;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::alert::{Alert, Noted};

/// Nobody is asked after another one for longer; a lost packet is sent again after a second.
const CONNECT: Duration = Duration::from_secs(2);
/// An operator that has just begun to lead listens a moment before it answers.
const ANSWER: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What may be on its way to a node: its memory is counted.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 384 << 10;

/// A connection that bytes go through.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How an address becomes a connection.
pub trait Dial: Send + Sync {
    /// Connects, without TLS.
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// Over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let address = address.to_owned();
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        }
        .boxed()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("operator {address} does not answer")]
    Connect {
        /// Its address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// What answers is not the operator that the CA vouches for.
    #[error("{address} does not prove to be the operator: {reason}")]
    Server {
        /// Its address.
        address: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The operator does not take this node's certificate.
    #[error("operator {address} refuses this node's certificate ({alert}); joining again")]
    Refused {
        /// Its address.
        address: String,
        /// What it said.
        alert: String,
    },
    /// TLS failed otherwise.
    #[error("TLS with operator {address} failed")]
    Tls {
        /// Its address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The node's own certificate and key do not go together.
    #[error("this node's certificate cannot be used")]
    Own(#[source] rustls::Error),
}

/// Connects, does the TLS handshake, and makes a channel over this one connection; tells of the alert that ends it, too.
///
/// # Errors
/// See [`DialError`].
pub async fn connect(
    dial: &dyn Dial,
    address: &str,
    roots: RootCertStore,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<(Channel, Alert), DialError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(DialError::Own)?
        .with_root_certificates(roots);
    let mut config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(DialError::Own)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let failed = |source| DialError::Connect { address: address.to_owned(), source };
    let connecting = timeout(CONNECT, dial.dial(address)).await;
    let stream = connecting.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let name = ServerName::try_from(OPERATOR_SERVER_NAME).map_err(|err| failed(io::Error::other(err)))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = match timeout(ANSWER, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => return Err(tls(address, err)),
        Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    // The channel gets this connection and no other: a new one means a new session, with backoff and all.
    let alert = Alert::default();
    let mut stream = Some(TokioIo::new(Noted::new(stream, alert.clone())));
    let connector = service_fn(move |_| {
        let taken = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(taken)
    });
    let channel = Endpoint::from_static("http://operator.axoneme.internal")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(ANSWER)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|err| tls(address, io::Error::other(err)))?;
    Ok((channel, alert))
}

fn tls(address: &str, source: io::Error) -> DialError {
    let address = address.to_owned();
    match rustls_error(&source) {
        Some(rustls::Error::InvalidCertificate(reason)) => DialError::Server { address, reason: explain(reason) },
        Some(rustls::Error::AlertReceived(alert)) => DialError::Refused { address, alert: format!("{alert:?}") },
        _ => DialError::Tls { address, source },
    }
}

fn explain(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Reason;
    match reason {
        Reason::UnknownIssuer | Reason::BadSignature => {
            "its certificate was not signed by the CA in ConfigMap axoneme-operators".into()
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            format!("its certificate is not for {OPERATOR_SERVER_NAME}")
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "its certificate has expired".into(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this node's clock right?".into()
        }
        other => other.to_string(),
    }
}

/// The TLS error behind an error, if there is one.
pub fn rustls_error<'a>(err: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(err);
    while let Some(err) = next {
        if let Some(found) = err.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => err.source(),
        };
    }
    None
}
