//! Notes the TLS alert that ends a connection.
//!
//! In TLS 1.3 a client learns only with its first read that the server does not take its certificate, when HTTP/2 already owns
//! the connection and hides why it broke.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::rustls_error;

/// The alert that a connection ended with, if one did. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Alert(Arc<OnceLock<String>>);

impl Alert {
    /// Its name.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// A TLS stream whose alert is noted.
#[derive(Debug)]
pub struct Noted<S> {
    stream: S,
    alert: Alert,
}

impl<S> Noted<S> {
    /// Notes alerts of `stream` in `alert`.
    pub fn new(stream: S, alert: Alert) -> Self {
        Self { stream, alert }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let cause = result.as_ref().err().and_then(|err| rustls_error(err));
        if let Some(rustls::Error::AlertReceived(alert)) = cause {
            // The first one is the reason.
            let _ = self.alert.0.set(format!("{alert:?}"));
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
