//! `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing::debug;

use super::Health;

/// A client that does not finish its request is hung up on.
const HEADERS: Duration = Duration::from_secs(5);

/// OpenMetrics, as scrapers ask for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("TCP port {port} cannot be served; is another operator on this host?")]
pub struct ServeError {
    /// The port.
    pub port: u16,
    /// What the system says.
    pub source: io::Error,
}

/// Listens on all addresses of the host: of both families if it has IPv6.
///
/// # Errors
/// When the port is taken.
pub async fn listen(port: u16) -> Result<TcpListener, ServeError> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ServeError { port, source: error }),
        Err(_) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            TcpListener::bind(address).await.map_err(|source| ServeError { port, source })
        }
    }
}

/// Serves health and metrics for as long as the process lives; all paths on both ports.
///
/// # Errors
/// When a port is taken.
pub async fn serve(health: Health, metrics: Registry, ports: &[u16]) -> Result<(), ServeError> {
    let metrics = Arc::new(metrics);
    for port in ports {
        let listener = listen(*port).await?;
        let (health, metrics) = (health.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let (health, metrics) = (health.clone(), Arc::clone(&metrics));
                let service = service_fn(move |request| {
                    let response = answer(&request, &health, &metrics);
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(async move {
                    let mut server = hyper::server::conn::http1::Builder::new();
                    server.timer(TokioTimer::new()).header_read_timeout(HEADERS);
                    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                        debug!(%error, "a request was not finished");
                    }
                });
            }
        });
    }
    Ok(())
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Registry) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned(), None);
    }
    answer_path(request.uri().path(), health, metrics)
}

fn answer_path(path: &str, health: &Health, metrics: &Registry) -> Response<Full<Bytes>> {
    let phase = health.phase();
    match path {
        "/healthz" | "/livez" => text(StatusCode::OK, format!("{phase}\n"), None),
        "/readyz" if phase.is_ready() => text(StatusCode::OK, format!("{phase}\n"), None),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, format!("{phase}\n"), None),
        "/metrics" => {
            let mut body = String::new();
            match encode(&mut body, metrics) {
                Ok(()) => text(StatusCode::OK, body, Some(OPEN_METRICS)),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n".to_owned(), None),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n".to_owned(), None),
    }
}

fn text(status: StatusCode, body: String, content_type: Option<&'static str>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type.unwrap_or("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;

    #[test]
    fn probes_and_metrics() {
        let (health, mut metrics) = (Health::default(), Registry::with_prefix("cilium_operator"));
        metrics.register("x", "an x", prometheus_client::metrics::counter::Counter::<u64>::default());
        let status = |path: &str| answer_path(path, &health, &metrics).status().as_u16();
        assert_eq!([status("/healthz"), status("/readyz"), status("/nothing")], [200, 503, 404]);
        health.enter(Phase::Refusing { reason: "another operator".into() });
        assert_eq!(status("/readyz"), 503);
        health.enter(Phase::StandingBy { leader: "other".into() });
        assert_eq!(status("/readyz"), 200);
        health.enter(Phase::Leading);
        assert_eq!([status("/readyz"), status("/metrics")], [200, 200]);
    }
}
