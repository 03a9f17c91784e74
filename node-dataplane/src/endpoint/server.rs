//! The CNI server: one connection, one request, one answer.

use std::fs;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::Endpoints;
use super::add::AddRequest;
use super::attachment::{self, PodSandbox};
use super::error::AttachError;
use super::protocol::{Command, Failure, MAX_LINE, Request, Response, code};
use crate::link::netns::Namespace;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}")]
pub struct ListenError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Why a connection was of no use.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("only root may ask")]
    NotRoot,
    #[error("the client did not say what it wants in time")]
    Slow,
    #[error("the client sent no line of at most {MAX_LINE} bytes")]
    NoLine,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Listens for the plugin. To be called when ADD can be served: until then the plugin tells the runtime to try again.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let error = |source| ListenError { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(error)?;
    }
    // A socket that a dead daemon left is replaced. A living one is a mistake of whoever started two, and would be noticed by its flows.
    axoneme_admin::server::listen(path).map_err(error)
}

/// Serves until the task is dropped. Requests run to their end even if their client goes away.
pub async fn serve(listener: UnixListener, endpoints: Endpoints) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let endpoints = endpoints.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, &endpoints).await {
                        tracing::warn!(%error, "a CNI request was not served");
                    }
                });
            }
            Err(error) => {
                // Too many open files, say: others will be closed.
                tracing::error!(%error, "cannot accept a CNI request");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(mut stream: UnixStream, endpoints: &Endpoints) -> Result<(), ConnectionError> {
    if stream.peer_cred()?.uid() != 0 {
        return Err(ConnectionError::NotRoot);
    }
    let received = tokio::time::timeout(PATIENCE, receive(&stream)).await.map_err(|_| ConnectionError::Slow)?;
    let (line, namespace) = received?;
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => answer(request, namespace, endpoints).await,
        Err(error) => Response::Failed(Failure {
            code: code::DECODE,
            message: "the plugin's request cannot be read: plugin and daemon are of different versions".to_owned(),
            details: error.to_string(),
        }),
    };
    let mut line = serde_json::to_vec(&response).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}

async fn answer(request: Request, namespace: Option<OwnedFd>, endpoints: &Endpoints) -> Response {
    let span = tracing::info_span!("cni", command = ?request.command, container = %request.container_id);
    let started = tokio::time::Instant::now();
    let result = tracing::Instrument::instrument(handle(&request, namespace, endpoints), span.clone()).await;
    let took = started.elapsed();
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let _entered = span.entered();
    let response = match result {
        Ok(response) => {
            tracing::info!(milliseconds, "served");
            response
        }
        Err(error) => {
            let failure = Failure::from(&error);
            tracing::warn!(milliseconds, error = failure.message, code = failure.code, "failed");
            Response::Failed(failure)
        }
    };
    endpoints.count(request.command, &response, took);
    response
}

async fn handle(request: &Request, namespace: Option<OwnedFd>, endpoints: &Endpoints) -> Result<Response, AttachError> {
    match (request.command, &request.valid) {
        (Command::Status, _) => return endpoints.status().await.map(|()| Response::Done),
        (Command::Gc, Some(valid)) => return endpoints.gc(&request.network, valid).await.map(|_| Response::Done),
        // Nothing is removed because it was not named by a list that is not there.
        (Command::Gc, None) => return Ok(Response::Done),
        (Command::Add | Command::Del | Command::Check, _) => {}
    }
    let key = attachment::key(request).ok_or_else(|| AttachError::Key {
        container_id: request.container_id.clone(),
        interface: request.interface.clone(),
    })?;
    let namespace = || {
        let fd = namespace.ok_or_else(|| AttachError::NoNamespace(request.netns.clone()))?;
        Namespace::new(fd).map_err(|source| AttachError::Namespace { path: request.netns.clone(), source })
    };
    match request.command {
        Command::Add => {
            let add = AddRequest {
                key,
                pod: PodSandbox::parse(&request.args)?,
                netns: request.netns.clone(),
                network: request.network.clone(),
                chained: request.chained.then(|| request.addresses.clone()),
            };
            let attachment = endpoints.add(&add, &namespace()?).await?;
            Ok(Response::Attached(attachment.result()))
        }
        Command::Check => endpoints.check(&key, &request.addresses, &namespace()?).await.map(|()| Response::Done),
        Command::Del => endpoints.del(&key).await.map(|()| Response::Done),
        Command::Status | Command::Gc => Ok(Response::Done),
    }
}

/// Reads a line, and the descriptor that came with it.
async fn receive(stream: &UnixStream) -> Result<(Vec<u8>, Option<OwnedFd>), ConnectionError> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    while line.len() <= MAX_LINE {
        let mut buffer = [0_u8; 4096];
        stream.readable().await?;
        let (count, received) =
            match stream.try_io(Interest::READABLE, || receive_some(stream.as_raw_fd(), &mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            };
        descriptor = descriptor.or(received);
        if count == 0 {
            return Err(ConnectionError::NoLine);
        }
        line.extend_from_slice(&buffer[..count]);
        if line.last() == Some(&b'\n') {
            return Ok((line, descriptor));
        }
    }
    Err(ConnectionError::NoLine)
}

fn receive_some(socket: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptor = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raws) = control {
            for raw in raws {
                // SAFETY: the kernel has just made this descriptor for us. All but the first one are closed at once.
                let owned = unsafe { OwnedFd::from_raw_fd(raw) };
                descriptor.get_or_insert(owned);
            }
        }
    }
    Ok((message.bytes, descriptor))
}
