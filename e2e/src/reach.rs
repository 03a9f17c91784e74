//! Who reaches whom: HTTP requests from within pods' network namespaces, all at the same time. The harness' own threads enter
//! the namespaces, so a probe costs no process, and images need no tools.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::thread::join;

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

/// Runs `work` on a thread inside of a network namespace. Sockets that it opens stay in there, wherever they are used.
pub fn inside<T: Send>(network: &File, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(network.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
            Ok(work())
        });
        join(thread)
    })
}

/// Asks each of `targets` for its host name from within each of `networks`.
pub fn probe_all(networks: &[File], targets: &[SocketAddr]) -> Result<Vec<Vec<Outcome>>> {
    std::thread::scope(|scope| {
        let row =
            |network| targets.iter().map(|target| scope.spawn(move || probe(network, *target))).collect::<Vec<_>>();
        let threads: Vec<Vec<_>> = networks.iter().map(row).collect();
        threads.into_iter().map(|row| row.into_iter().map(join).collect()).collect()
    })
}

/// Asks `target` for its host name by HTTP.
pub fn probe(network: &File, target: SocketAddr) -> Result<Outcome> {
    inside(network, || outcome(ask(target)))
}

/// Whom `target` sees when it is asked by HTTP, as agnhost's netexec tells: the address that a request comes from.
pub fn seen_as(network: &File, target: SocketAddr) -> Result<IpAddr> {
    let answer = inside(network, || get(target, "/clientip"))?;
    let answer = answer.with_context(|| format!("no answer from {target}"))?;
    let seen: SocketAddr = answer.parse().with_context(|| format!("{answer} is no address"))?;
    Ok(seen.ip().to_canonical())
}

/// Asks `target` for its host name by UDP, as agnhost's netexec understands it.
pub fn probe_udp(network: &File, target: SocketAddr) -> Result<Outcome> {
    inside(network, || outcome(ask_udp(target)))
}

fn outcome(answer: std::io::Result<String>) -> Outcome {
    match answer {
        Ok(name) => Outcome::Reached(name),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Outcome::Silent,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn ask_udp(target: SocketAddr) -> std::io::Result<String> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"hostname\n")?;
    let mut answer = [0; 256];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
}

fn ask(target: SocketAddr) -> std::io::Result<String> {
    get(target, "/hostname")
}

fn get(target: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.filter(|b| !b.is_empty()).ok_or_else(|| std::io::Error::other("an answer without a body"))
}

/// A connection that stays open and can be asked again and again.
#[derive(Debug)]
pub struct Conversation(TcpStream);

impl Conversation {
    /// Connects from within a network namespace.
    pub fn open(network: &File, target: SocketAddr) -> Result<Self> {
        let stream = inside(network, || TcpStream::connect_timeout(&target, PATIENCE))?.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// One request and its answer's status line, within `patience`.
    pub fn ask(&mut self, patience: Duration) -> std::io::Result<String> {
        self.0.set_read_timeout(Some(patience))?;
        self.0.write_all(b"GET /hostname HTTP/1.1\r\nHost: e2e\r\n\r\n")?;
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned())
    }
}
