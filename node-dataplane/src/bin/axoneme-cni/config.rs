//! What the runtime sends on stdin, as far as it concerns us.

use std::net::IpAddr;
use std::path::PathBuf;

use axoneme_node::endpoint::protocol::{self, Failure, ValidAttachment, code};
use serde::Deserialize;
use serde_json::Value;

/// Versions of the CNI specification, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The network's configuration.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(default, rename = "cniVersion")]
    pub cni_version: Option<String>,
    /// Of the network, not of this plugin.
    #[serde(default)]
    pub name: String,
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    #[serde(default = "default_attachments")]
    pub attachments: PathBuf,
    #[serde(default = "default_deferred")]
    pub deferred: PathBuf,
    /// What the plugin before this one answered to ADD; with CHECK and DEL what the last one of the list did.
    #[serde(default, rename = "prevResult")]
    pub previous: Option<Value>,
    /// GC: what the runtime still knows.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    pub valid: Option<Vec<ValidAttachment>>,
    /// The same, as runtimes wrote it that were made after a misprint in the specification.
    #[serde(default, rename = "cni.dev/attachments")]
    pub misprinted_valid: Option<Vec<ValidAttachment>>,
}

fn default_socket() -> PathBuf {
    protocol::SOCKET.into()
}

fn default_attachments() -> PathBuf {
    protocol::ATTACHMENTS.into()
}

fn default_deferred() -> PathBuf {
    protocol::DEFERRED.into()
}

impl Config {
    /// The version in which to speak. Without one in the configuration, the oldest: every runtime reads that.
    pub fn version(&self) -> Result<&'static str, Failure> {
        let Some(asked) = &self.cni_version else { return Ok(VERSIONS[0]) };
        VERSIONS.into_iter().find(|known| known == asked).ok_or_else(|| Failure {
            code: code::VERSION,
            message: format!("cniVersion {asked} is not supported; {} are", VERSIONS.join(", ")),
            details: String::new(),
        })
    }

    /// The addresses that `prevResult` has for the pod's interface. Those of no interface at all count: that is how plugins
    /// answer that know one interface only.
    pub fn previous_addresses(&self, interface: &str) -> Vec<IpAddr> {
        let Some(previous) = &self.previous else { return Vec::new() };
        let of_pod = |index: u64| {
            let found = usize::try_from(index).ok().and_then(|index| previous["interfaces"].get(index));
            found.is_some_and(|found| {
                found["name"] == interface && found["sandbox"].as_str().is_some_and(|s| !s.is_empty())
            })
        };
        let ips = previous["ips"].as_array().into_iter().flatten();
        let ours = ips.filter(|ip| ip["interface"].as_u64().is_none_or(of_pod));
        ours.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pods_addresses_are_those_of_its_interface() {
        let config = |previous: Value| serde_json::from_value::<Config>(json!({ "prevResult": previous })).unwrap();
        let previous = json!({
            "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/run/netns/x"}, {"name": "net1", "sandbox": "/run/netns/x"}],
            "ips": [
                {"interface": 0, "address": "10.0.0.1/24"}, {"interface": 1, "address": "10.0.0.2/24"},
                {"interface": 2, "address": "10.0.0.3/24"}, {"address": "fd00::2/64"}, {"interface": 9, "address": "10.0.0.4/24"},
            ],
        });
        let expected: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(config(previous).previous_addresses("eth0"), expected);
        assert_eq!(config(json!(null)).previous_addresses("eth0"), Vec::<IpAddr>::new());
    }
}
