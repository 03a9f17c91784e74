//! The CNI plugin: says to the node's daemon what the runtime said, and back. It keeps no state and decides nothing, but for
//! DEL while the daemon is away.

mod answer;
mod config;
mod daemon;

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use axoneme_node::endpoint::protocol::{self, Command, Failure, Request, Response, code};
use config::{Config, VERSIONS};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut version = VERSIONS[0].to_owned();
    let (answer, exit) = match run(&mut version) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (Some(answer::failed(&version, &failure)), ExitCode::FAILURE),
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
    config.version()?.clone_into(version);
    let command = known(&command, version)?;
    let (request, namespace) = request(command, &config)?;
    match (daemon::ask(&request, namespace.as_ref(), &config)?, command, &config.previous) {
        (Response::Attached(_), Command::Add, Some(previous)) => Ok(Some(answer::unchanged(version, previous))),
        (Response::Attached(attached), Command::Add, None) => {
            Ok(Some(answer::result(version, &attached, &request.netns)))
        }
        (Response::Done, Command::Del | Command::Check | Command::Status | Command::Gc, _) => Ok(None),
        (Response::Failed(failure), ..) => Err(failure),
        (Response::Attached(_) | Response::Done, ..) => {
            Err(refused(code::DECODE, "the daemon answered something else than was asked".to_owned()))
        }
    }
}

/// The command of this name, if the version of the specification has it.
fn known(name: &str, version: &str) -> Result<Command, Failure> {
    let (command, since) = match name {
        "ADD" => (Command::Add, "0.3.1"),
        "DEL" => (Command::Del, "0.3.1"),
        "CHECK" => (Command::Check, "0.4.0"),
        "STATUS" => (Command::Status, "1.1.0"),
        "GC" => (Command::Gc, "1.1.0"),
        other => {
            let message = format!("CNI_COMMAND {other:?} is none of ADD, DEL, CHECK, STATUS, GC and VERSION");
            return Err(refused(code::INVALID_ENVIRONMENT, message));
        }
    };
    let age = |version: &str| VERSIONS.iter().position(|known| *known == version);
    if age(version) < age(since) {
        return Err(refused(code::VERSION, format!("cniVersion {version} has no {name}; {since} has")));
    }
    Ok(command)
}

/// What the environment says, as the daemon is asked, and the pod's network namespace.
fn request(command: Command, config: &Config) -> Result<(Request, Option<File>), Failure> {
    let mut request = Request { network: config.name.clone(), ..Request::new(command) };
    match command {
        Command::Status => return Ok((request, None)),
        Command::Gc => {
            request.valid = config.valid.clone().or_else(|| config.misprinted_valid.clone());
            return Ok((request, None));
        }
        Command::Add | Command::Del | Command::Check => {}
    }
    request.container_id = variable("CNI_CONTAINERID")?;
    request.interface = variable("CNI_IFNAME")?;
    request.args = std::env::var("CNI_ARGS").unwrap_or_default();
    request.chained = command == Command::Add && config.previous.is_some();
    request.addresses = config.previous_addresses(&request.interface);
    // It becomes part of files' names, also here.
    if !protocol::is_container_id(&request.container_id) || !protocol::is_interface(&request.interface) {
        let Request { container_id, interface, .. } = request;
        let message = format!("CNI_CONTAINERID {container_id:?} or CNI_IFNAME {interface:?} is invalid");
        return Err(refused(code::INVALID_ENVIRONMENT, message));
    }
    if command == Command::Del {
        // It comes without a namespace, or with one that is gone, when the pod's sandbox is.
        request.netns = std::env::var("CNI_NETNS").unwrap_or_default();
        return Ok((request, None));
    }
    request.netns = variable("CNI_NETNS")?;
    let namespace = File::open(&request.netns).map_err(|error| {
        failure(code::INVALID_ENVIRONMENT, format!("cannot open CNI_NETNS {}", request.netns), error)
    })?;
    Ok((request, Some(namespace)))
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| failure(code::INVALID_ENVIRONMENT, format!("{name} is missing"), error))
}

fn refused(code: u32, message: String) -> Failure {
    Failure { code, message, details: String::new() }
}

fn failure(code: u32, message: impl Into<String>, error: impl std::fmt::Display) -> Failure {
    let (message, details) = (message.into(), error.to_string());
    Failure { code, message: format!("{message}: {details}"), details }
}
