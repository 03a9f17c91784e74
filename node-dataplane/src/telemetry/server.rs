//! `/healthz`, `/readyz` and `/metrics` over HTTP.

use std::convert::Infallible;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;

use super::health::Health;

/// Connections at a time; a kubelet and a scraper need two.
const CONNECTIONS: usize = 16;
const HEADER: Duration = Duration::from_secs(5);

/// What is served.
#[derive(Clone, Debug)]
pub enum Page {
    /// `/healthz` and `/readyz`.
    Health(Health),
    /// `/metrics`.
    Metrics(Arc<Registry>),
}

/// Listens on all addresses of the host.
///
/// # Errors
/// When the port is taken.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    // Both families at once; without IPv6, the other one alone.
    let socket = TcpSocket::new_v6().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
        Ok(socket)
    });
    let socket = match socket {
        Ok(socket) => socket,
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => return Err(err),
        Err(_) => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(([0, 0, 0, 0], port).into())?;
            socket
        }
    };
    socket.listen(64)
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, page: Page) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(%err, "cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let page = page.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&page, &request))));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER)
                .max_buf_size(8 << 10)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(err) = connection.await {
                tracing::debug!(%err, "connection ended");
            }
            drop(permit);
        });
    }
}

fn answer(page: &Page, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
    }
    match (page, request.uri().path()) {
        (Page::Health(health), "/healthz") => {
            // That it answers says that it lives. What it says is for people.
            text(StatusCode::OK, lines(&health.watch().borrow().lines()))
        }
        (Page::Health(health), "/readyz") => {
            let report = health.watch().borrow().clone();
            let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, lines(&report.lines()))
        }
        (Page::Metrics(registry), "/metrics") => {
            let mut body = String::new();
            match encode(&mut body, registry) {
                Ok(()) => {
                    let mut response = text(StatusCode::OK, body);
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
                    response
                }
                Err(err) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{err}\n")),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
    }
}

fn lines(problems: &[String]) -> String {
    if problems.is_empty() { "ok\n".into() } else { problems.iter().map(|line| format!("{line}\n")).collect() }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
