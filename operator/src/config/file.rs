//! `operator.yaml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// Its path.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not the YAML that `config` describes.
    #[error("{}: {field}: {source}", file.display())]
    Parse {
        /// Its path.
        file: PathBuf,
        /// Path of the field.
        field: String,
        /// What is wrong, with the line.
        source: serde_yaml::Error,
    },
    /// A value that makes no sense.
    #[error("{}: {field}: {problem}", file.display())]
    Value {
        /// Its path.
        file: PathBuf,
        /// Path of the field.
        field: &'static str,
        /// What is wrong and what is expected.
        problem: String,
    },
}

/// The settings.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ConfigFile {
    /// This cluster among others.
    pub cluster: Cluster,
    /// How pods get addresses.
    pub ipam: Ipam,
    /// How packets travel between nodes.
    pub routing_mode: RoutingMode,
    /// UDP port of the overlay.
    pub tunnel_port: u16,
    /// MTU of pods; 0: derived on every node.
    #[serde(rename = "MTU")]
    pub mtu: u32,
    /// IPv4 for pods.
    pub ipv4: Family,
    /// IPv6 for pods.
    pub ipv6: Family,
    /// Whether IPv4 packets to the world leave with the node's address.
    #[serde(rename = "enableIPv4Masquerade")]
    pub masquerade_ipv4: bool,
    /// Whether IPv6 packets to the world leave with the node's address.
    #[serde(rename = "enableIPv6Masquerade")]
    pub masquerade_ipv6: bool,
    /// When policy is enforced.
    pub policy_enforcement_mode: PolicyEnforcementMode,
    /// The operator itself.
    pub operator: Operator,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            cluster: Cluster::default(),
            ipam: Ipam::default(),
            routing_mode: RoutingMode::default(),
            tunnel_port: 8472,
            mtu: 0,
            ipv4: Family { enabled: true },
            ipv6: Family { enabled: false },
            masquerade_ipv4: true,
            masquerade_ipv6: true,
            policy_enforcement_mode: PolicyEnforcementMode::default(),
            operator: Operator::default(),
        }
    }
}

/// Whether an address family is used.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Pods get an address of it.
    pub enabled: bool,
}

/// A cluster's name and number.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Its name, at most 32 characters of a DNS label.
    pub name: String,
    /// Its number, 0 (a single cluster) to 255; identities carry it in bits 16 to 23.
    pub id: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { name: "default".into(), id: 0 }
    }
}

/// How pods get addresses.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Ipam {
    /// Who decides.
    pub mode: IpamMode,
    /// Settings of the mode `cluster-pool`.
    pub operator: ClusterPool,
}

/// Who decides about addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum IpamMode {
    /// The operator cuts a CIDR per node out of the pools below.
    #[default]
    ClusterPool,
}

/// Pools of the whole cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterPool {
    /// IPv4 pools, used in this order; more may be added while the cluster runs.
    #[serde(rename = "clusterPoolIPv4PodCIDRList")]
    pub ipv4_cidrs: Vec<IpNet>,
    /// Prefix length of a node's CIDR.
    #[serde(rename = "clusterPoolIPv4MaskSize")]
    pub ipv4_mask: u8,
    /// IPv6 pools.
    #[serde(rename = "clusterPoolIPv6PodCIDRList")]
    pub ipv6_cidrs: Vec<IpNet>,
    /// Prefix length of a node's CIDR.
    #[serde(rename = "clusterPoolIPv6MaskSize")]
    pub ipv6_mask: u8,
}

impl Default for ClusterPool {
    fn default() -> Self {
        Self {
            ipv4_cidrs: vec![IpNet::new_assert([10, 0, 0, 0].into(), 8)],
            ipv4_mask: 24,
            ipv6_cidrs: vec![IpNet::new_assert([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 104)],
            ipv6_mask: 120,
        }
    }
}

/// How packets travel between nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingMode {
    /// In VXLAN.
    #[default]
    Tunnel,
    /// As they are; the network knows the way to every node's CIDR.
    Native,
}

/// When policy is enforced.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyEnforcementMode {
    /// For pods that a policy selects.
    #[default]
    Default,
    /// For all pods.
    Always,
    /// For none.
    Never,
}

/// The operator itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Operator {
    /// TCP port of NodeSync.
    pub port: u16,
    /// TCP port of `/healthz` and `/readyz`.
    pub health_port: u16,
    /// TCP port of `/metrics`.
    pub metrics_port: u16,
    /// Label selector of all replicas' pods, in this pod's namespace.
    pub pod_selector: String,
    /// ServiceAccount of the node daemons, in this pod's namespace.
    pub node_service_account: String,
    /// How long a node's certificate is valid; it is renewed after two thirds of that.
    pub node_certificate_seconds: u32,
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            port: axoneme_proto::NODESYNC_PORT,
            health_port: 9234,
            metrics_port: 9963,
            pod_selector: "app.kubernetes.io/name=axoneme-operator".into(),
            node_service_account: "axoneme-node".into(),
            node_certificate_seconds: 3600,
        }
    }
}

impl ConfigFile {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// Names the file, the field and what is wrong with it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.into(), source })?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = if text.trim().is_empty() {
            Self::default()
        } else {
            serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
                let field = error.path().to_string();
                ConfigError::Parse { file: file.into(), field, source: error.into_inner() }
            })?
        };
        match config.problem() {
            Some((field, problem)) => Err(ConfigError::Value { file: file.into(), field, problem }),
            None => Ok(config),
        }
    }

    /// The first value that makes no sense.
    fn problem(&self) -> Option<(&'static str, String)> {
        if !self.ipv4.enabled && !self.ipv6.enabled {
            return Some(("ipv4.enabled", "one of ipv4 and ipv6 must be enabled".into()));
        }
        if self.cluster.id > 255 {
            return Some(("cluster.id", format!("{} is not within 0 to 255", self.cluster.id)));
        }
        if self.cluster.name.is_empty() || self.cluster.name.len() > 32 {
            return Some(("cluster.name", format!("{:?} has not 1 to 32 characters", self.cluster.name)));
        }
        if self.tunnel_port == 0 {
            return Some(("tunnelPort", "must not be 0".into()));
        }
        if self.mtu != 0 && !(576..=65_535).contains(&self.mtu) {
            return Some(("MTU", format!("{} is neither 0 nor within 576 to 65535", self.mtu)));
        }
        if self.ipv6.enabled && self.mtu != 0 && self.mtu < 1280 {
            return Some(("MTU", format!("{} is less than the 1280 that IPv6 needs", self.mtu)));
        }
        if !(600..=604_800).contains(&self.operator.node_certificate_seconds) {
            let seconds = self.operator.node_certificate_seconds;
            return Some(("operator.nodeCertificateSeconds", format!("{seconds} is not within 600 to 604800")));
        }
        let pool = &self.ipam.operator;
        let ipv4 = ("ipam.operator.clusterPoolIPv4PodCIDRList", "ipam.operator.clusterPoolIPv4MaskSize");
        let ipv6 = ("ipam.operator.clusterPoolIPv6PodCIDRList", "ipam.operator.clusterPoolIPv6MaskSize");
        let v4 = self.ipv4.enabled.then(|| pool_problem(ipv4, &pool.ipv4_cidrs, pool.ipv4_mask, false)).flatten();
        v4.or_else(|| self.ipv6.enabled.then(|| pool_problem(ipv6, &pool.ipv6_cidrs, pool.ipv6_mask, true)).flatten())
    }
}

fn pool_problem(
    (list, mask_field): (&'static str, &'static str),
    cidrs: &[IpNet],
    mask: u8,
    v6: bool,
) -> Option<(&'static str, String)> {
    if cidrs.is_empty() {
        return Some((list, "is empty although the family is enabled".into()));
    }
    // A node's CIDR needs room for its own address, a pod and a reserve.
    let longest = if v6 { 125 } else { 29 };
    for (i, cidr) in cidrs.iter().enumerate() {
        let family = if v6 { "IPv6" } else { "IPv4" };
        if cidr.addr().is_ipv6() != v6 {
            return Some((list, format!("{cidr} is no {family} prefix")));
        }
        if cidr.trunc() != *cidr {
            return Some((list, format!("{cidr} has bits set behind its length, {} is meant", cidr.trunc())));
        }
        if mask < cidr.prefix_len() || mask > longest {
            return Some((mask_field, format!("{mask} is not within {} (of {cidr}) to {longest}", cidr.prefix_len())));
        }
        if let Some(other) = cidrs[..i].iter().find(|other| other.contains(cidr) || cidr.contains(*other)) {
            return Some((list, format!("{cidr} and {other} overlap")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(Path::new("operator.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_means_defaults() {
        assert_eq!(parse(""), Ok(ConfigFile::default()));
        assert_eq!(parse("{}"), Ok(ConfigFile::default()));
        let config = parse("ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.244.0.0/16]}}\nMTU: 1400").unwrap();
        assert_eq!(config.ipam.operator.ipv4_cidrs, ["10.244.0.0/16".parse().unwrap()]);
        assert_eq!((config.ipam.operator.ipv4_mask, config.mtu), (24, 1400));
    }

    #[test]
    fn errors_name_file_and_field() {
        for (text, expected) in [
            ("routingMod: native", "operator.yaml: routingMod: unknown field `routingMod`"),
            ("routingMode: geneve", "operator.yaml: routingMode: routingMode: unknown variant `geneve`"),
            ("cluster: {id: 256}", "operator.yaml: cluster.id: 256 is not within 0 to 255"),
            ("ipv4: {enabled: false}", "operator.yaml: ipv4.enabled: one of"),
            ("ipam: {mode: eni}", "operator.yaml: ipam.mode: "),
            (
                "ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.0.0.1/8]}}",
                "operator.yaml: ipam.operator.clusterPoolIPv4PodCIDRList: 10.0.0.1/8 has bits set",
            ),
            (
                "ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.0.0.0/8, 10.1.0.0/16]}}",
                "operator.yaml: ipam.operator.clusterPoolIPv4PodCIDRList: 10.1.0.0/16 and 10.0.0.0/8 overlap",
            ),
            (
                "ipam: {operator: {clusterPoolIPv4MaskSize: 31}}",
                "operator.yaml: ipam.operator.clusterPoolIPv4MaskSize: 31 is not within 8 (of 10.0.0.0/8) to 29",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(ConfigFile::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
    }
}
