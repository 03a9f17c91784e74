//! The daemon, asked over its socket, and DEL when nobody answers there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axoneme_node::endpoint::protocol::{self, Command, Failure, Request, Response, code};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::config::Config;
use crate::failure;

/// Longer than the daemon ever waits, shorter than the kubelet does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the daemon. A DEL that finds none succeeds, and is done when there is one again.
pub fn ask(request: &Request, namespace: Option<&File>, config: &Config) -> Result<Response, Failure> {
    let absent = match UnixStream::connect(&config.socket) {
        Ok(stream) => return answer(stream, request, namespace),
        Err(error) => error,
    };
    if request.command == Command::Del {
        if !may_be_attached(config, request) {
            return Ok(Response::Done);
        }
        match defer(request, config) {
            // A daemon that has come back meanwhile may have looked for deferred requests before this one was there.
            Ok(deferred) => {
                return match UnixStream::connect(&config.socket) {
                    Ok(stream) => {
                        let answer = answer(stream, request, namespace)?;
                        let _ = fs::remove_file(deferred);
                        Ok(answer)
                    }
                    Err(_) => Ok(Response::Done),
                };
            }
            Err(error) => {
                let message = format!("no axoneme daemon answers, and {} cannot be written", config.deferred.display());
                return Err(failure(code::TRY_AGAIN, message, error));
            }
        }
    }
    let code = if request.command == Command::Status { code::NOT_AVAILABLE } else { code::TRY_AGAIN };
    let message = format!(
        "axoneme daemon is not running on this node (no answer at {}): see `kubectl -n kube-system get pods -l \
         app.kubernetes.io/name=axoneme -o wide`",
        config.socket.display()
    );
    Err(failure(code, message, absent))
}

fn answer(stream: UnixStream, request: &Request, namespace: Option<&File>) -> Result<Response, Failure> {
    converse(stream, request, namespace)
        .map_err(|error| failure(code::TRY_AGAIN, "the axoneme daemon on this node did not answer", error))
}

fn converse(stream: UnixStream, request: &Request, namespace: Option<&File>) -> io::Result<Response> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let descriptors: Vec<_> = namespace.iter().map(|file| file.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &control[..0] } else { &control[..] };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    (&stream).write_all(line.get(sent..).unwrap_or_default())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Every attachment has a file before the kernel knows of it. A directory that cannot be looked into may hold anything.
fn may_be_attached(config: &Config, request: &Request) -> bool {
    protocol::is_container_id(&request.container_id) && file(&config.attachments, request).try_exists().unwrap_or(true)
}

/// Leaves the request where a daemon looks before it serves others. Written whole or not at all.
fn defer(request: &Request, config: &Config) -> io::Result<PathBuf> {
    fs::create_dir_all(&config.deferred)?;
    let path = file(&config.deferred, request);
    let new = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, serde_json::to_vec(request)?)?;
    fs::rename(&new, &path)?;
    Ok(path)
}

fn file(directory: &Path, request: &Request) -> PathBuf {
    directory.join(protocol::file_name(&request.container_id, &request.interface))
}
