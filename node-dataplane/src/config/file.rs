//! `node.yaml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::endpoint::conflist::Conflist;
use crate::programs::LoadConfig;
use crate::programs::sizes::Sizes;

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
