//! What the daemon is told: its flags, and `node.yaml`, which the chart renders from Helm values.
//!
//! Every key has a default; a key that is not known is an error, because a misspelt setting that is silently ignored is found
//! much later. What nodes have in common (routing mode, pod CIDRs, MTU) comes from the operator and is not configured here.
//! The file, with its defaults:
//!
//! ```yaml
//! healthPort: 9879                  # /healthz and /readyz
//! metricsPort: 9962                 # /metrics
//! cgroupRoot: /sys/fs/cgroup        # where the host's cgroup v2 hierarchy is mounted for the daemon
//! sysctlRoot: /proc/sys             # where the host's net sysctls may be written
//! bpfRoot: /sys/fs/bpf/axoneme      # where maps, programs and links are pinned
//! stateDirectory: /var/lib/axoneme  # checkpoint, attachments, key and certificate
//! runDirectory: /run/axoneme        # the CNI plugin's socket
//! operatorsDirectory: /etc/axoneme/operators              # ConfigMap axoneme-operators
//! tokenFile: /var/run/secrets/axoneme/token
//! cni:
//!   binDirectory: /opt/cni/bin
//!   confDirectory: /etc/cni/net.d
//!   plugin: ""                      # axoneme-cni as it came with the daemon; empty: beside the daemon's own binary
//!   waitSeconds: 10                 # how long ADD waits for the operator to tell of a pod
//!   chainingMode: none              # generic-veth: the daemon works behind another plugin, which makes the pods' devices
//!   chainingTarget: ""              # name of the network that is chained after; empty: its configuration names this plugin
//!   exclusive: true                 # configurations of other networks are put aside, as *.axoneme_bak; not when chained
//!   customConf: false               # true: the runtime's configuration is somebody else's and is not written
//! devices: []                       # uplinks beside those with the node's addresses: eth0, eth+, eth*, !eth1; empty: those
//!                                   # with default routes
//! sizes: {ctTcp: null, ctAny: null, nat: null, sockReverse: null}   # entries; null: from the node's memory
//! ```

mod file;

use std::io;
use std::path::PathBuf;

use axoneme_admin::output::NoFormat;

use crate::check::command::Check;
use crate::probe::Probe;
use crate::question::Question;

pub use file::{ChainingMode, Cni, Config};

/// Why the daemon cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag that does not exist.
    #[error("unknown argument {0:?}; see axoneme-node --help")]
    UnknownArgument(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// The node's name is missing.
    #[error("--node-name is missing: the daemon must know which node it runs on")]
    NoNodeName,
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not the YAML described above.
    #[error("{}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml::Error,
    },
    /// Such a form of output does not exist.
    #[error(transparent)]
    Format(#[from] NoFormat),
    /// Two ports are the same.
    #[error("healthPort and metricsPort are both {0}")]
    Ports(u16),
}

/// What the binary is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the daemon.
    Agent(Flags),
    /// Load and attach programs, and exit.
    Load(Flags),
    /// Take everything off the node.
    Cleanup {
        /// Of which only the file and the log matter.
        flags: Flags,
        /// Not exit afterwards.
        stay: bool,
    },
    /// Ask or answer other nodes' pods.
    Probe(Probe),
    /// Look whether this node is fit for the daemon.
    Check(Check),
    /// Ask the daemon that runs.
    Ask(Question),
    /// Say which version this is.
    Version,
    /// Say how it is called.
    Help,
}

/// Flags of daemon and loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The file.
    pub config: PathBuf,
    /// Name of the node; only the daemon needs it.
    pub node_name: String,
    /// What is logged, like "info" or "info,axoneme_node::sync=debug".
    pub log: String,
    /// Log as JSON, a line an event.
    pub log_json: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            config: "/etc/axoneme/config/node.yaml".into(),
            node_name: String::new(),
            log: "info".into(),
            log_json: false,
        }
    }
}

/// Whether somebody wants no colours (no-color.org).
#[must_use]
pub fn no_color() -> Option<String> {
    std::env::var("NO_COLOR").ok()
}

/// How the binary is called.
pub const HELP: &str = "\
Programs this node's kernel as the Axoneme operator says.

Usage: axoneme-node [agent|load|cleanup|version] [flags]
       axoneme-node check [--all] [--root DIR] [-o json]
       axoneme-node status|endpoint|identity|node|policy|service [list] [-o json] [--socket FILE]

  agent                run the daemon (default)
  load                 load and attach the BPF programs, and exit
  cleanup              take programs, maps, devices, routes, CNI configuration and state off this node;
                       attached pods lose their network
  version              print the version
  status               ask the daemon how it is: stream, progress, failing rows, maps
  endpoint ...         ask it for what is desired next to what the kernel has; what differs is marked

  check                look whether this node is fit for the daemon, and what is in its way: kernel, mounts, ports,
                       leftovers of other networks; exit code 1 if something is bad
  probe serve PORT NAME                         tell NAME to everybody, by TCP and UDP
  probe ask ADDRESS:PORT [--udp|--connect]      ask such a server; both for: axoneme connectivity

  --root DIR           check: where the host's files are [/]
  --all                check: say what is as it should be, too
  -o, --output FORM    table or json [table]
  --socket FILE        where the daemon answers [/run/axoneme/admin.sock]

  --config FILE        settings [/etc/axoneme/config/node.yaml]
  --node-name NAME     the node this runs on
  --log FILTER         e.g. info, or info,axoneme_node::sync=debug [info]
  --log-json           log as JSON
  --stay               cleanup: then serve /readyz until told to stop, instead of an exit
";

impl Command {
    /// Reads the arguments behind the binary's name.
    ///
    /// # Errors
    /// When one is unknown or missing.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, ConfigError> {
        let mut flags = Flags::default();
        let (mut verb, mut stay) = (None, false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if verb.is_none() && argument == "probe" {
                return Probe::parse(arguments).map(Self::Probe);
            }
            if verb.is_none() && argument == "check" {
                return Check::parse(arguments).map(Self::Check);
            }
            if verb.is_none()
                && let Some(question) = Question::of(&argument)
            {
                return question.parse(arguments).map(Self::Ask);
            }
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = |name| attached.clone().or_else(|| arguments.next()).ok_or(ConfigError::NoValue(name));
            match name {
                "--config" => flags.config = value("--config")?.into(),
                "--node-name" => flags.node_name = value("--node-name")?,
                "--log" => flags.log = value("--log")?,
                "--log-json" => flags.log_json = true,
                "--help" | "-h" | "help" => return Ok(Self::Help),
                "--version" | "version" => return Ok(Self::Version),
                "--stay" => stay = true,
                "agent" | "load" | "cleanup" if verb.is_none() => verb = Some(argument),
                _ => return Err(ConfigError::UnknownArgument(argument)),
            }
        }
        match verb.as_deref() {
            Some("cleanup") => Ok(Self::Cleanup { flags, stay }),
            _ if stay => Err(ConfigError::UnknownArgument("--stay".into())),
            Some("load") => Ok(Self::Load(flags)),
            _ if flags.node_name.is_empty() => Err(ConfigError::NoNodeName),
            _ => Ok(Self::Agent(flags)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, String> {
        Command::parse(text.split_whitespace().map(str::to_owned)).map_err(|err| err.to_string())
    }

    #[test]
    fn arguments() {
        let flags = Flags { config: "/c".into(), node_name: "n".into(), log: "debug".into(), log_json: true };
        assert_eq!(parse("--config=/c --node-name n --log=debug --log-json"), Ok(Command::Agent(flags.clone())));
        assert_eq!(parse("load --config /c --node-name n --log debug --log-json"), Ok(Command::Load(flags)));
        let cleanup = |stay| Command::Cleanup { flags: Flags { node_name: "n".into(), ..Flags::default() }, stay };
        assert_eq!(parse("cleanup --node-name=n"), Ok(cleanup(false)));
        assert_eq!(parse("cleanup --stay --node-name=n"), Ok(cleanup(true)));
        assert!(parse("--stay --node-name=n").is_err(), "a daemon is not told to clean by half of a command line");
        assert_eq!(parse("version"), Ok(Command::Version));
        assert_eq!(parse("agent"), Err(ConfigError::NoNodeName.to_string()));
        assert_eq!(parse("--node-name"), Err("--node-name needs a value".into()));
        assert_eq!(parse("--nod n"), Err("unknown argument \"--nod\"; see axoneme-node --help".into()));
    }
}
