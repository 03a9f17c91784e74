//! The CNI plugin: says to the node's daemon what the runtime said, and back. It keeps no state and decides nothing, but for
//! DEL while the daemon is away.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axoneme_node::endpoint::protocol::{self, Attached, Command, Failure, Request, Response, code};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};

/// Versions of the CNI specification, oldest first.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Longer than the daemon ever waits, shorter than the kubelet does.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the runtime sends on stdin, as far as it concerns us.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    cni_version: Option<String>,
    #[serde(default = "default_socket")]
    socket: PathBuf,
    #[serde(default = "default_attachments")]
    attachments: PathBuf,
}

fn default_socket() -> PathBuf {
    protocol::SOCKET.into()
}

fn default_attachments() -> PathBuf {
    protocol::ATTACHMENTS.into()
}

fn main() -> ExitCode {
    // Without a version in the configuration, the oldest: every runtime reads that.
    let mut version = VERSIONS[0].to_owned();
    let (answer, exit) = match run(&mut version) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failed(&version, &failure), ExitCode::FAILURE),
    };
    match answer {
        // Nobody is left to be told when stdout is gone.
        Some(answer) if writeln!(io::stdout(), "{answer}").is_err() => ExitCode::FAILURE,
        _ => exit,
    }
}

fn run(version: &mut String) -> Result<Option<Value>, Failure> {
    let command = variable("CNI_COMMAND")?;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).map_err(|error| failure(code::IO, "cannot read stdin", error))?;
    if command == "VERSION" {
        if let Ok(Config { cni_version: Some(asked), .. }) = serde_json::from_slice(&input) {
            *version = asked;
        }
        return Ok(Some(json!({ "cniVersion": version, "supportedVersions": VERSIONS })));
    }
    let config: Config = serde_json::from_slice(&input)
        .map_err(|error| failure(code::DECODE, "the network configuration on stdin cannot be read", error))?;
    if let Some(asked) = &config.cni_version {
        if !VERSIONS.contains(&asked.as_str()) {
            let message = format!("cniVersion {asked} is not supported; {} are", VERSIONS.join(", "));
            return Err(Failure { code: 1, message, details: String::new() });
        }
        version.clone_from(asked);
    }
    let command = match command.as_str() {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "STATUS" => Command::Status,
        // GC comes with the daemon's own list of what is attached; until then every DEL is served, also late ones.
        "GC" => return Ok(None),
        other => {
            let message = format!("CNI_COMMAND {other:?} is none of ADD, DEL, CHECK, STATUS, GC and VERSION");
            return Err(Failure { code: code::INVALID_ENVIRONMENT, message, details: String::new() });
        }
    };
    match (ask(command, &config)?, command) {
        (Response::Attached(attached), Command::Add) => {
            let netns = variable("CNI_NETNS")?;
            Ok(Some(result(version, &attached, &netns)))
        }
        (Response::Done, Command::Del | Command::Check | Command::Status) => Ok(None),
        (Response::Failed(failure), _) => Err(failure),
        (Response::Attached(_) | Response::Done, _) => Err(Failure {
            code: code::DECODE,
            message: "the daemon answered something else than was asked".to_owned(),
            details: String::new(),
        }),
    }
}

fn ask(command: Command, config: &Config) -> Result<Response, Failure> {
    let mut request = Request {
        command,
        container_id: String::new(),
        interface: String::new(),
        netns: String::new(),
        args: String::new(),
    };
    let mut namespace = None;
    if command != Command::Status {
        request.container_id = variable("CNI_CONTAINERID")?;
        request.interface = variable("CNI_IFNAME")?;
        request.args = std::env::var("CNI_ARGS").unwrap_or_default();
        // DEL comes without one, or with one that is gone, when the pod's sandbox is.
        request.netns = if command == Command::Del {
            std::env::var("CNI_NETNS").unwrap_or_default()
        } else {
            variable("CNI_NETNS")?
        };
        namespace = match File::open(&request.netns) {
            Ok(file) => Some(file),
            Err(_) if command == Command::Del => None,
            Err(error) => {
                return Err(failure(
                    code::INVALID_ENVIRONMENT,
                    format!("cannot open CNI_NETNS {}", request.netns),
                    error,
                ));
            }
        };
    }
    match UnixStream::connect(&config.socket) {
        Ok(stream) => converse(stream, &request, namespace.as_ref())
            .map_err(|error| failure(code::TRY_AGAIN, "the axoneme daemon on this node did not answer", error)),
        // Nothing is left that a daemon would have to remove.
        Err(_) if command == Command::Del && namespace.is_none() && !is_attached(config, &request) => {
            Ok(Response::Done)
        }
        Err(error) => {
            let code = if command == Command::Status { code::NOT_AVAILABLE } else { code::TRY_AGAIN };
            let message = format!(
                "axoneme daemon is not running on this node (no answer at {}): see `kubectl -n kube-system get pods -l \
                 app.kubernetes.io/name=axoneme -o wide`",
                config.socket.display()
            );
            Err(failure(code, message, error))
        }
    }
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

fn is_attached(config: &Config, request: &Request) -> bool {
    let name = protocol::file_name(&request.container_id, &request.interface);
    // A directory that cannot be looked into may hold anything.
    protocol::is_container_id(&request.container_id)
        && Path::new(&config.attachments).join(name).try_exists().unwrap_or(true)
}

/// A result of ADD in the given version of the specification.
fn result(version: &str, attached: &Attached, netns: &str) -> Value {
    let old = matches!(version, "0.3.1" | "0.4.0");
    let interface = |name: &str, mac: &str, sandbox: Option<&str>| {
        let mut interface = json!({ "name": name, "mac": mac });
        if let Some(sandbox) = sandbox {
            interface["sandbox"] = sandbox.into();
        }
        if version == "1.1.0" {
            interface["mtu"] = attached.mtu.into();
        }
        interface
    };
    let ips = attached.addresses.iter().map(|address| {
        let bits = if address.address.is_ipv4() { 32 } else { 128 };
        let mut ip =
            json!({ "interface": 1, "address": format!("{}/{bits}", address.address), "gateway": address.gateway });
        if old {
            ip["version"] = if address.address.is_ipv4() { "4" } else { "6" }.into();
        }
        ip
    });
    let routes = attached.addresses.iter().map(|address| {
        let everything = if address.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut route = json!({ "dst": everything, "gw": address.gateway });
        if version == "1.1.0" {
            route["mtu"] = attached.mtu.into();
        }
        route
    });
    json!({
        "cniVersion": version,
        "interfaces": [
            interface(&attached.host_interface, &attached.host_mac, None),
            interface(&attached.interface, &attached.mac, Some(netns)),
        ],
        "ips": ips.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "dns": {},
    })
}

fn failed(version: &str, failure: &Failure) -> Option<Value> {
    let Failure { code, message, details } = failure;
    Some(json!({ "cniVersion": version, "code": code, "msg": message, "details": details }))
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| failure(code::INVALID_ENVIRONMENT, format!("{name} is missing"), error))
}

fn failure(code: u32, message: impl Into<String>, error: impl std::fmt::Display) -> Failure {
    let (message, details) = (message.into(), error.to_string());
    Failure { code, message: format!("{message}: {details}"), details }
}
