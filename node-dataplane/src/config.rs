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

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axoneme_admin::output::NoFormat;
use serde::{Deserialize, Serialize};

use crate::check::command::Check;
use crate::endpoint::conflist::Conflist;
use crate::probe::Probe;
use crate::programs::LoadConfig;
use crate::programs::sizes::Sizes;
use crate::question::Question;

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

/// `node.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// TCP port of /healthz and /readyz, on all of the host's addresses.
    pub health_port: u16,
    /// TCP port of /metrics.
    pub metrics_port: u16,
    /// Where the host's cgroup v2 hierarchy is mounted.
    pub cgroup_root: PathBuf,
    /// Where the host's sysctls may be written.
    pub sysctl_root: PathBuf,
    /// Where maps, programs and links are pinned.
    pub bpf_root: PathBuf,
    /// Checkpoint, attachments, key and certificate.
    pub state_directory: PathBuf,
    /// The CNI plugin's socket.
    pub run_directory: PathBuf,
    /// The mounted ConfigMap `axoneme-operators`.
    pub operators_directory: PathBuf,
    /// The pod's bound token.
    pub token_file: PathBuf,
    /// The CNI plugin.
    pub cni: Cni,
    /// Names of uplinks, see [`Patterns`](crate::link::uplink::Patterns).
    pub devices: Vec<String>,
    /// Entries of the maps whose need grows with traffic.
    pub sizes: Sizes,
    /// Keys that this version does not know, by their paths: they are another version's, or misspelt.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

/// Who makes the pods' devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainingMode {
    /// The daemon.
    #[default]
    None,
    /// Another plugin, which is called before; any that makes veth pairs.
    GenericVeth,
}

/// Where the runtime looks for its plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cni {
    /// Directory of plugins.
    pub bin_directory: PathBuf,
    /// Directory of configurations.
    pub conf_directory: PathBuf,
    /// The plugin as it came with the daemon; empty: beside the daemon's binary.
    pub plugin: PathBuf,
    /// How long ADD waits for the operator to tell of a pod, in seconds.
    pub wait_seconds: u64,
    /// Who makes the pods' devices.
    pub chaining_mode: ChainingMode,
    /// Name of the network that is chained after.
    pub chaining_target: String,
    /// Put configurations of other networks out of the runtime's sight.
    pub exclusive: bool,
    /// The runtime's configuration is not written here.
    pub custom_conf: bool,
}

impl Cni {
    /// Whose configuration the runtime reads.
    #[must_use]
    pub fn conflist(&self) -> Conflist {
        match (self.custom_conf, self.chaining_mode, self.chaining_target.as_str()) {
            (true, ..) | (false, ChainingMode::GenericVeth, "") => Conflist::Custom,
            (false, ChainingMode::None, "") => Conflist::Own,
            // A target says that there is something to chain after.
            (false, _, target) => Conflist::After(target.to_owned()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            health_port: 9879,
            metrics_port: 9962,
            cgroup_root: "/sys/fs/cgroup".into(),
            sysctl_root: "/proc/sys".into(),
            bpf_root: crate::programs::DEFAULT_ROOT.into(),
            state_directory: "/var/lib/axoneme".into(),
            run_directory: "/run/axoneme".into(),
            operators_directory: "/etc/axoneme/operators".into(),
            token_file: "/var/run/secrets/axoneme/token".into(),
            cni: Cni::default(),
            devices: Vec::new(),
            sizes: Sizes::default(),
            unknown: Vec::new(),
        }
    }
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            bin_directory: "/opt/cni/bin".into(),
            conf_directory: "/etc/cni/net.d".into(),
            plugin: PathBuf::new(),
            wait_seconds: 10,
            chaining_mode: ChainingMode::None,
            chaining_target: String::new(),
            exclusive: true,
            custom_conf: false,
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::default();
        if !text.trim().is_empty() {
            let (yaml, mut unknown) = (serde_yaml::Deserializer::from_str(&text), Vec::new());
            config = serde_ignored::deserialize(yaml, |key| unknown.push(key.to_string()))
                .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
            config.unknown = unknown;
        }
        if config.health_port == config.metrics_port {
            return Err(ConfigError::Ports(config.health_port));
        }
        Ok(config)
    }

    /// What the loader needs of it.
    #[must_use]
    pub fn load(&self) -> LoadConfig {
        LoadConfig { root: self.bpf_root.clone(), cgroup_root: self.cgroup_root.clone(), sizes: self.sizes }
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

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.yaml");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Config::read(&path)
        };
        assert_eq!(read("").unwrap(), Config::default());
        let config = read("healthPort: 1\nsizes: {nat: 5}\ncni: {plugin: /p}\n").unwrap();
        assert_eq!((config.health_port, config.sizes.nat, config.cni.plugin), (1, Some(5), "/p".into()));
        let config =
            read("devices: [eth+]\ncni: {chainingMode: generic-veth, exclusive: false, customConf: true}").unwrap();
        assert_eq!((config.devices, config.cni.chaining_mode), (vec!["eth+".to_owned()], ChainingMode::GenericVeth));
        assert_eq!((config.cni.exclusive, config.cni.custom_conf), (false, true));
        let conflist = |text: &str| read(&format!("cni: {{{text}}}")).unwrap().cni.conflist();
        assert_eq!(conflist("chainingMode: generic-veth"), Conflist::Custom);
        assert_eq!(conflist("chainingTarget: bridge"), Conflist::After("bridge".into()));
        // A daemon of another version that starts in the middle of an upgrade reads the same file.
        let config = read("{helthPort: 1, metricsPort: 7, cni: {fast: true}}").unwrap();
        assert_eq!((config.unknown, config.metrics_port), (vec!["helthPort".to_owned(), "cni.fast".to_owned()], 7));
        let error = |text: &str| anyhow::Error::from(read(text).unwrap_err()).root_cause().to_string();
        assert_eq!(error("healthPort: 7\nmetricsPort: 7"), "healthPort and metricsPort are both 7");
    }
}
