//! `operator.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axoneme_proto::tables::PolicyMode;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Track;

use super::check::problem;
use super::ipam::Ipam;
use super::replica::Operator;
use crate::compile::policy::{Emergency, Owners};

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
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigFile {
    /// This cluster among others.
    pub cluster: Cluster,
    /// How pods get addresses.
    pub ipam: Ipam,
    /// How packets travel between nodes.
    pub routing_mode: RoutingMode,
    /// Native routing: nodes keep routes to the pods of the nodes in their own subnet.
    pub auto_direct_node_routes: bool,
    /// ... and leave the nodes of other subnets to routes that others keep.
    pub direct_routing_skip_unreachable: bool,
    /// Destinations outside the cluster that see pods' own addresses: the network knows the way back.
    #[serde(rename = "ipv4NativeRoutingCIDR", deserialize_with = "prefix")]
    pub ipv4_native_routing_cidr: Option<IpNet>,
    /// The same for IPv6.
    #[serde(rename = "ipv6NativeRoutingCIDR", deserialize_with = "prefix")]
    pub ipv6_native_routing_cidr: Option<IpNet>,
    /// UDP port of the overlay.
    pub tunnel_port: u16,
    /// Family of the overlay's outer packets.
    pub underlay_protocol: UnderlayProtocol,
    /// MTU of pods; 0: derived on every node.
    #[serde(rename = "MTU")]
    pub mtu: u32,
    /// IPv4 for pods.
    pub ipv4: Switch,
    /// IPv6 for pods.
    pub ipv6: Switch,
    /// Whether IPv4 packets to the world leave with the node's address.
    #[serde(rename = "enableIPv4Masquerade")]
    pub masquerade_ipv4: bool,
    /// Whether IPv6 packets to the world leave with the node's address.
    #[serde(rename = "enableIPv6Masquerade")]
    pub masquerade_ipv6: bool,
    /// Further destinations that see pods' own addresses, in the ConfigMap `ip-masq-agent`.
    pub ip_masq_agent: Switch,
    /// What nodes' programs do.
    pub bpf: Bpf,
    /// Limits by the annotations `kubernetes.io/egress-bandwidth` and `ingress-bandwidth`.
    pub bandwidth_manager: Switch,
    /// What of Kubernetes nodes is relied upon.
    pub k8s: Kubernetes,
    /// ClusterNetworkPolicies of Kubernetes hold. Their definition is installed by somebody else.
    pub k8s_cluster_network_policy: Switch,
    /// Policies of nodes.
    pub host_firewall: HostFirewall,
    /// When policy is enforced.
    pub policy_enforcement_mode: PolicyEnforcementMode,
    /// What CIDRs in Cilium's policies mean beside what is outside the cluster.
    #[serde(rename = "policyCIDRMatchMode")]
    pub policy_cidr_match_mode: Vec<PolicyCidrMatchMode>,
    /// Fixed numbers for label sets that most clusters have.
    pub well_known_identities: Switch,
    /// Names of fixed numbers that pods may ask for, by number.
    pub fixed_identity_mapping: BTreeMap<u32, String>,
    /// Key of the taint of nodes whose daemon is not ready.
    pub agent_not_ready_taint_key: String,
    /// The operator itself.
    pub operator: Operator,
    /// Keys that this version does not know, by their paths: they are another version's, or misspelt.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            cluster: Cluster::default(),
            ipam: Ipam::default(),
            routing_mode: RoutingMode::default(),
            auto_direct_node_routes: false,
            direct_routing_skip_unreachable: false,
            ipv4_native_routing_cidr: None,
            ipv6_native_routing_cidr: None,
            tunnel_port: 8472,
            underlay_protocol: UnderlayProtocol::default(),
            mtu: 0,
            ipv4: Switch { enabled: true },
            ipv6: Switch { enabled: false },
            masquerade_ipv4: true,
            masquerade_ipv6: true,
            ip_masq_agent: Switch::default(),
            bpf: Bpf::default(),
            bandwidth_manager: Switch::default(),
            k8s: Kubernetes::default(),
            k8s_cluster_network_policy: Switch::default(),
            host_firewall: HostFirewall::default(),
            policy_enforcement_mode: PolicyEnforcementMode::default(),
            policy_cidr_match_mode: Vec::new(),
            well_known_identities: Switch::default(),
            fixed_identity_mapping: BTreeMap::new(),
            agent_not_ready_taint_key: "node.cilium.io/agent-not-ready".into(),
            operator: Operator::default(),
            unknown: Vec::new(),
        }
    }
}

/// Whether something (an address family, a feature) is used.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Switch {
    /// It is.
    pub enabled: bool,
}

/// What of Kubernetes nodes is relied upon. Both are implied by the mode `kubernetes` of IPAM for each family that is enabled.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Kubernetes {
    /// Nodes have an IPv4 prefix in `spec.podCIDRs`.
    #[serde(rename = "requireIPv4PodCIDR")]
    pub require_ipv4_pod_cidr: bool,
    /// Nodes have an IPv6 prefix in `spec.podCIDRs`.
    #[serde(rename = "requireIPv6PodCIDR")]
    pub require_ipv6_pod_cidr: bool,
}

/// What nodes' programs do.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Bpf {
    /// What they tell of single packets.
    pub events: Events,
}

/// What nodes' programs tell of single packets, beside what is dropped or audited.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct Events {
    /// Flows that a policy's rule lets begin.
    pub policy_verdict: Switch,
}

impl Default for Events {
    fn default() -> Self {
        Self { policy_verdict: Switch { enabled: true } }
    }
}

/// Policies of nodes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct HostFirewall {
    /// They hold.
    pub enabled: bool,
    /// TCP ports of nodes that stay open whatever they say.
    pub emergency_ports: Vec<u16>,
}

impl Default for HostFirewall {
    fn default() -> Self {
        // SSH, the kubelet, the API server.
        Self { enabled: false, emergency_ports: vec![22, 10250, 6443] }
    }
}

/// A cluster's name and number.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
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

/// Family of the overlay's outer packets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum UnderlayProtocol {
    /// Nodes' IPv4 addresses are the tunnel's ends.
    #[default]
    Ipv4,
    /// Nodes' IPv6 addresses are.
    Ipv6,
}

/// What CIDRs in Cilium's policies mean beside what is outside the cluster.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyCidrMatchMode {
    /// Nodes.
    Nodes,
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

impl From<PolicyEnforcementMode> for PolicyMode {
    fn from(mode: PolicyEnforcementMode) -> Self {
        match mode {
            PolicyEnforcementMode::Default => Self::Default,
            PolicyEnforcementMode::Always => Self::Always,
            PolicyEnforcementMode::Never => Self::Never,
        }
    }
}

impl ConfigFile {
    /// Whose addresses CIDRs in Cilium's policies mean.
    #[must_use]
    pub fn cidrs_of(&self) -> Owners {
        match self.policy_cidr_match_mode.contains(&PolicyCidrMatchMode::Nodes) {
            true => Owners::WorldAndNodes,
            false => Owners::World,
        }
    }

    /// What stays open where policies of nodes hold, but for the operator's own API server; none: they do not.
    #[must_use]
    pub fn host_firewall(&self) -> Option<Emergency> {
        let ports = &self.host_firewall.emergency_ports;
        self.host_firewall.enabled.then(|| Emergency {
            ports: (&**ports).into(),
            nodesync: self.operator.port,
            server: None,
        })
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// Names the file, the field and what is wrong with it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.into(), source })?;
        Self::parse(file, &text)
    }

    /// Reads and checks what a file says.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if !text.trim().is_empty() {
            let (mut at, mut unknown) = (Track::new(), Vec::new());
            let yaml = serde_path_to_error::Deserializer::new(serde_yaml::Deserializer::from_str(text), &mut at);
            let read = serde_ignored::deserialize(yaml, |key| unknown.push(key.to_string()));
            let wrong = |source| ConfigError::Parse { file: file.into(), field: at.path().to_string(), source };
            config = Self { unknown, ..read.map_err(wrong)? };
        }
        match problem(&config) {
            Some((field, problem)) => Err(ConfigError::Value { file: file.into(), field, problem }),
            None => Ok(config),
        }
    }
}

/// A prefix; empty, as the chart writes it: none.
fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(None),
        false => text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no CIDR"))),
    }
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
        let native =
            parse("{routingMode: native, ipv4NativeRoutingCIDR: 10.0.0.0/8, ipv6NativeRoutingCIDR: ''}").unwrap();
        assert_eq!(native.ipv4_native_routing_cidr, Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(native.ipv6_native_routing_cidr, None);
        let ipv6_only = "{ipv4: {enabled: false}, ipv6: {enabled: true}, underlayProtocol: ipv6}";
        assert_eq!(parse(ipv6_only).unwrap().underlay_protocol, UnderlayProtocol::Ipv6);
        let config = parse("ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.244.0.0/16]}}\nMTU: 1400").unwrap();
        assert_eq!(config.ipam.operator.ipv4_cidrs, ["10.244.0.0/16".parse().unwrap()]);
        assert_eq!((config.ipam.operator.ipv4_mask, config.mtu), (24, 1400));
    }

    /// An operator of another version that starts in the middle of an upgrade reads the same file.
    #[test]
    fn keys_of_another_version_are_told_and_change_nothing() {
        let config = parse("{routingMod: native, MTU: 1400, ipam: {operator: {newPools: [{a: 1}]}}}").unwrap();
        assert_eq!(config.unknown, ["routingMod", "ipam.operator.newPools"]);
        assert_eq!(config, ConfigFile { mtu: 1400, unknown: config.unknown.clone(), ..ConfigFile::default() });
    }

    #[test]
    fn a_host_firewall_keeps_ways_open_by_which_nodes_are_reached() {
        assert_eq!(parse("").unwrap().host_firewall(), None);
        assert_eq!(parse("hostFirewall: {emergencyPorts: [2222]}").unwrap().host_firewall(), None);
        let usual = parse("hostFirewall: {enabled: true}").unwrap().host_firewall().unwrap();
        assert_eq!((&*usual.ports, usual.nodesync), (&[22, 10250, 6443][..], axoneme_proto::NODESYNC_PORT));
        let own = parse("{hostFirewall: {enabled: true, emergencyPorts: []}, operator: {port: 4000}}").unwrap();
        assert_eq!(own.host_firewall(), Some(Emergency { ports: [].into(), nodesync: 4000, server: None }));
    }

    #[test]
    fn errors_name_file_and_field() {
        for (text, expected) in [
            ("routingMode: geneve", "operator.yaml: routingMode: routingMode: unknown variant `geneve`"),
            ("cluster: {id: 256}", "operator.yaml: cluster.id: 256 is not within 0 to 255"),
            ("ipv4: {enabled: false}", "operator.yaml: ipv4.enabled: one of"),
            ("ipam: {mode: eni}", "operator.yaml: ipam.mode: "),
            ("autoDirectNodeRoutes: true", "operator.yaml: autoDirectNodeRoutes: needs routingMode native"),
            (
                "{routingMode: native, directRoutingSkipUnreachable: true}",
                "operator.yaml: directRoutingSkipUnreachable: ",
            ),
            ("ipv4NativeRoutingCIDR: fd00::/64", "operator.yaml: ipv4NativeRoutingCIDR: fd00::/64 is no IPv4 prefix"),
            ("ipv6NativeRoutingCIDR: fd00::/64", "operator.yaml: ipv6NativeRoutingCIDR: is set although ipv6.enabled"),
            ("ipv4NativeRoutingCIDR: 10.0.0.1", "operator.yaml: ipv4NativeRoutingCIDR: "),
            ("ipam: {multiPoolPreAllocation: 8}", "operator.yaml: ipam.multiPoolPreAllocation: "),
            (
                "ipam: {operator: {autoCreateCiliumPodIPPools: {a: {ipv4: {cidrs: [], maskSize: 24, mask: 1}}}}}",
                "operator.yaml: ipam.operator.autoCreateCiliumPodIPPools: a: unknown field \"mask\"",
            ),
            ("operator: {identityGCInterval: 5 m}", "operator.yaml: operator.identityGCInterval: "),
            ("fixedIdentityMapping: {127: a}", "operator.yaml: fixedIdentityMapping: 127 is not within 128 to 255"),
            ("fixedIdentityMapping: {128: host}", "operator.yaml: fixedIdentityMapping: \"host\" (128) is reserved"),
            (
                "fixedIdentityMapping: {128: a, 129: a}",
                "operator.yaml: fixedIdentityMapping: \"a\" (129) is named twice",
            ),
            ("underlayProtocol: ipv6", "operator.yaml: underlayProtocol: ipv6 although ipv6.enabled is false"),
            ("hostFirewall: {emergencyPorts: [22, 0]}", "operator.yaml: hostFirewall.emergencyPorts: 0 is no port"),
            (
                "hostFirewall: {emergencyPorts: [22, 22]}",
                "operator.yaml: hostFirewall.emergencyPorts: 22 is named twice",
            ),
            ("hostFirewall: {emergencyPorts: [65536]}", "operator.yaml: hostFirewall.emergencyPorts[0]: "),
            ("k8s: {requireIPv4PodCIDR: true}", "operator.yaml: k8s.requireIPv4PodCIDR: needs ipam.mode kubernetes"),
            (
                "{ipMasqAgent: {enabled: true}, enableIPv4Masquerade: false}",
                "operator.yaml: ipMasqAgent.enabled: nothing is masqueraded",
            ),
            ("ipam: {mode: delegated-plugin}", "operator.yaml: ipam.mode: delegated-plugin needs routingMode native"),
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
