//! Accepts connections and finds out who dials.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::debug;

use super::{Authority, AuthorityError, Peer};

/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handshakes at the same time: a signature each, so more would only take longer.
const HANDSHAKES: usize = 64;

/// What the server shows and accepts; replaced as a whole, so that certificates change without a restart.
#[derive(Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// A fresh server certificate of `authority`, and its clients.
    ///
    /// # Errors
    /// When the certificate cannot be issued.
    pub fn new(authority: &Authority) -> Result<Self, AuthorityError> {
        Ok(Self(Arc::new(ArcSwap::from(config(authority)?))))
    }

    /// Shows a fresh certificate to connections from now on, and accepts those of the CAs that are trusted now. Connections that
    /// there are stay.
    ///
    /// # Errors
    /// When the certificate cannot be issued; the former one stays.
    pub fn renew(&self, authority: &Authority) -> Result<(), AuthorityError> {
        self.0.store(config(authority)?);
        Ok(())
    }
}

fn config(authority: &Authority) -> Result<Arc<ServerConfig>, AuthorityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in authority.trusted() {
        roots.add(certificate.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|_| AuthorityError::Unusable("it cannot verify clients"))?;
    let (chain, key) = authority.issue_server()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

/// Accepts connections until the receiver is dropped. Nobody waits for another one's handshake.
pub fn accept(listener: TcpListener, tls: ServerTls) -> mpsc::Receiver<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                // Out of file descriptors, or a client that went away: neither is a reason to stop.
                Err(error) => {
                    debug!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
            let (sender, tls) = (sender.clone(), tls.0.load_full());
            tokio::spawn(async move {
                let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, address, tls)).await;
                drop(permit);
                if let Ok(Some(connection)) = connection {
                    sender.send(Ok(connection)).await.ok();
                }
            });
        }
    });
    receiver
}

async fn handshake(stream: TcpStream, address: SocketAddr, tls: Arc<ServerConfig>) -> Option<TlsConnection> {
    stream.set_nodelay(true).ok();
    let stream = TlsAcceptor::from(tls)
        .accept(stream)
        .await
        .inspect_err(|error| debug!(%address, %error, "TLS handshake failed"))
        .ok()?;
    let peer = Peer::of(stream.get_ref().1.peer_certificates())
        .inspect_err(|error| tracing::warn!(%address, %error, "connection refused"))
        .ok()?;
    Some(TlsConnection { stream, peer })
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
