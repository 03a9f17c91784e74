//! Asks a daemon on its socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// How long an answer may take: a list of everything on a large node takes a fraction of that.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody answers at {}: is the daemon running, and may you open its socket?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("no answer from {}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The question makes no sense, and what would.
    #[error("{0}")]
    Unclear(String),
    /// The daemon refused.
    #[error("the daemon answers: {0}")]
    Refused(String),
    /// It is not what was asked for.
    #[error("the daemon's answer cannot be understood: is it of another version?")]
    Decode(#[from] serde_json::Error),
}

/// Asks for a subject.
///
/// # Errors
/// When there is no answer, or none that can be understood.
pub fn ask<T: DeserializeOwned>(socket: &Path, subject: &str) -> Result<T, AskError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|source| AskError::Connect { path: path(), source })?;
    let answer = exchange(stream, subject).map_err(|source| AskError::Answer { path: path(), source })?;
    let body = body(&answer)?;
    Ok(serde_json::from_slice(body)?)
}

fn exchange(mut stream: UnixStream, subject: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    stream.write_all(format!("GET /v1/{subject} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Result<&[u8], AskError> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = end.map_or((answer, &[][..]), |end| (&answer[..end], &answer[end + 4..]));
    let status = String::from_utf8_lossy(head);
    let status = status.lines().next().unwrap_or_default();
    let said = String::from_utf8_lossy(body);
    match status.split_whitespace().nth(1) {
        Some("200") => Ok(body),
        Some("400") => Err(AskError::Unclear(said.trim().to_owned())),
        _ => Err(AskError::Refused(format!("{status} {}", said.trim()))),
    }
}
