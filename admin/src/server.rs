//! Serves a daemon's answers on a Unix socket.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

/// Questions at a time: people ask, and an answer can be large.
const CONNECTIONS: usize = 4;
const HEADER: Duration = Duration::from_secs(5);
/// Before it is tried again to accept a connection, which fails for want of file descriptors or memory: at once would be as vain.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no such subject.
    #[error("there is no such subject; there are {0}")]
    Unknown(String),
    /// The question makes no sense.
    #[error("{0}")]
    Unclear(String),
    /// It cannot be told now.
    #[error("{0}")]
    Unavailable(String),
    /// It cannot be written as JSON.
    #[error("cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// What is to be told about a subject, as JSON. `query` is what stands behind a question mark.
    fn answer(&self, subject: &str, query: &str) -> impl Future<Output = Result<Vec<u8>, NoAnswer>> + Send;
}

/// Listens at `path`, which only its owner may open. What an earlier daemon has left there is replaced.
///
/// # Errors
/// When the directory refuses.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else may open it, also not for a moment: it is made under another name first.
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves until the task is dropped.
pub async fn serve(listener: UnixListener, answers: impl Answers) {
    let (answers, room) = (Arc::new(answers), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(respond(&*answers, request.method(), request.uri()).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(8 << 10);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a question was not finished");
            }
            drop(permit);
        });
    }
}

async fn respond(answers: &impl Answers, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"GET only\n".to_vec());
    }
    let subject = uri.path().strip_prefix("/v1/").unwrap_or_default();
    match answers.answer(subject, uri.query().unwrap_or_default()).await {
        Ok(json) => response(StatusCode::OK, "application/json", json),
        Err(none) => {
            let status = match none {
                NoAnswer::Unknown(_) => StatusCode::NOT_FOUND,
                NoAnswer::Unclear(_) => StatusCode::BAD_REQUEST,
                NoAnswer::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                NoAnswer::Encode(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            response(status, "text/plain; charset=utf-8", format!("{none}\n").into_bytes())
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{AskError, ask};

    struct One;

    impl Answers for One {
        async fn answer(&self, subject: &str, query: &str) -> Result<Vec<u8>, NoAnswer> {
            match subject {
                "one" => Ok(serde_json::to_vec(&1)?),
                "length" => Ok(serde_json::to_vec(&query.len())?),
                "what" => Err(NoAnswer::Unclear("say one".into())),
                "later" => Err(NoAnswer::Unavailable("not yet".into())),
                _ => Err(NoAnswer::Unknown("one, later".into())),
            }
        }
    }

    #[tokio::test]
    async fn who_asks_is_answered_and_only_the_owner_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::SOCKET);
        fs::write(&path, "left by an earlier one").unwrap();
        let server = tokio::spawn(serve(listen(&path).unwrap(), One));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = |subject: &'static str| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || ask::<u32>(&path, subject))
        };
        assert_eq!(asked("one").await.unwrap().unwrap(), 1);
        assert_eq!(asked("length?of=this").await.unwrap().unwrap(), 7);
        let refused = |result: Result<u32, AskError>| result.unwrap_err().to_string();
        let none = refused(asked("two").await.unwrap());
        assert!(none.contains("404") && none.contains("there are one, later"), "{none}");
        assert_eq!(refused(asked("what").await.unwrap()), "say one");
        assert!(refused(asked("later").await.unwrap()).contains("503 Service Unavailable not yet"));
        server.abort();
        drop(server.await);
        assert!(matches!(asked("one").await.unwrap(), Err(AskError::Connect { .. })));
    }
}
