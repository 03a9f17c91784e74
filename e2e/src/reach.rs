//! Who reaches whom: HTTP requests from within pods' network namespaces, all at the same time. The harness' own threads enter
//! the namespaces, so a probe costs no process, and images need no tools.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

/// How long a connection may take: a lost first packet is sent again after one second.
pub const PATIENCE: Duration = Duration::from_millis(1300);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pod of this name answered.
    Reached(String),
    /// No answer in time: dropped on the way.
    Silent,
    /// An error: refused, unreachable, reset.
    Failed(String),
}

impl Outcome {
    /// Whether somebody answered.
    pub fn reached(&self) -> bool {
        matches!(self, Self::Reached(_))
    }
}

/// Asks each of `targets` for its host name from within the network namespace `from`.
pub fn probe_all(from: &[File], targets: &[SocketAddr]) -> Result<Vec<Vec<Outcome>>> {
    std::thread::scope(|scope| {
        let start = |namespace: &File, target: SocketAddr| {
            let namespace = namespace.try_clone().context("too many open files")?;
            anyhow::Ok(scope.spawn(move || probe(&namespace, target)))
        };
        let threads: Vec<Vec<_>> = from
            .iter()
            .map(|f| targets.iter().map(|t| start(f, *t)).collect::<Result<Vec<_>>>())
            .collect::<Result<_>>()?;
        let join = |t: std::thread::ScopedJoinHandle<'_, Result<Outcome>>| {
            t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        };
        threads.into_iter().map(|row| row.into_iter().map(join).collect()).collect()
    })
}

/// One request. Changes the calling thread's network namespace for good: call it on a thread of its own.
fn probe(namespace: &File, target: SocketAddr) -> Result<Outcome> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter the pod's network namespace")?;
    Ok(match ask(target) {
        Ok(name) => Outcome::Reached(name),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock) => {
            Outcome::Silent
        }
        Err(error) => Outcome::Failed(error.to_string()),
    })
}

fn ask(target: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.filter(|b| !b.is_empty()).ok_or_else(|| std::io::Error::other("an answer without a body"))
}
