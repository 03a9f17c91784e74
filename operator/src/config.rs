//! What the operator is told: its flags, and `operator.yaml`, which the chart renders from Helm values.
//!
//! Keys are named as the chart's values, and those as Cilium names the same thing. Every key has a default. A key that is not
//! known is logged: during an upgrade both versions read one file, and the older one must be able to start again. The chart's schema
//! refuses what is misspelt. The file:
//!
//! ```yaml
//! cluster: {name: default, id: 0}
//! ipam:
//!   mode: cluster-pool           # multi-pool, kubernetes, delegated-plugin
//!   multiPoolPreAllocation: default=8
//!   operator:
//!     clusterPoolIPv4PodCIDRList: ["10.0.0.0/8"]
//!     clusterPoolIPv4MaskSize: 24
//!     clusterPoolIPv6PodCIDRList: ["fd00::/104"]
//!     clusterPoolIPv6MaskSize: 120
//!     autoCreateCiliumPodIPPools: {default: {ipv4: {cidrs: [10.10.0.0/16], maskSize: 27}}}
//! routingMode: tunnel            # or native
//! autoDirectNodeRoutes: false    # native: nodes of one subnet route to each other
//! directRoutingSkipUnreachable: false # ... and say nothing of nodes of other subnets
//! ipv4NativeRoutingCIDR: ""      # never masqueraded to, beside the cluster's own addresses
//! ipv6NativeRoutingCIDR: ""
//! tunnelPort: 8472
//! underlayProtocol: ipv4         # or ipv6: of the tunnel's outer packets
//! MTU: 0                         # of pods; 0: derived on every node
//! ipv4: {enabled: true}
//! ipv6: {enabled: false}
//! enableIPv4Masquerade: true
//! enableIPv6Masquerade: true
//! ipMasqAgent: {enabled: false}  # the ConfigMap ip-masq-agent says what else is not masqueraded to
//! bpf: {events: {policyVerdict: {enabled: true}}} # flows that rules allow are told of, not only what is dropped
//! bandwidthManager: {enabled: false}
//! k8s: {requireIPv4PodCIDR: false, requireIPv6PodCIDR: false}
//! k8sClusterNetworkPolicy: {enabled: false}  # ClusterNetworkPolicies hold
//! hostFirewall:                  # policies of nodes hold, and these TCP ports stay open whatever they say
//!   enabled: false
//!   emergencyPorts: [22, 10250, 6443]
//! policyEnforcementMode: default # always, never
//! policyCIDRMatchMode: []        # [nodes]: CIDRs in Cilium's policies mean addresses of nodes, too
//! wellKnownIdentities: {enabled: false}
//! fixedIdentityMapping: {}       # e.g. {128: kv-store}: pods with the label io.cilium.fixed-identity=kv-store are 128
//! agentNotReadyTaintKey: node.cilium.io/agent-not-ready
//! operator:
//!   port: 4246                   # NodeSync
//!   healthPort: 9234
//!   metricsPort: 9963
//!   podSelector: app.kubernetes.io/name=axoneme-operator
//!   nodePodSelector: app.kubernetes.io/name=axoneme
//!   removeNodeTaints: true       # of nodes whose daemon is ready
//!   setNodeTaints: true          # of nodes whose daemon is not
//!   setNodeNetworkStatus: true   # the condition NetworkUnavailable
//!   nodeServiceAccount: axoneme-node
//!   nodeCertificateSeconds: 3600
//!   identityGCInterval: 15m0s    # unused identities are deleted this often; 0s: never
//!   identityHeartbeatTimeout: 30m0s # ... when they were unused for so long
//!   nodeGCInterval: 5m0s         # a CiliumNode stays so long without its Node; 0s: for ever
//!   endpointGCInterval: 5m0s     # CiliumEndpoints without a pod; 0s: only when an operator begins to lead
//! ```

mod check;
mod duration;
mod file;
mod ipam;
mod replica;

use std::net::IpAddr;
use std::path::PathBuf;

use axoneme_admin::explain::{Explanation, Flow};
use axoneme_admin::output::{self, Format};
use axoneme_admin::{client, operator, show};

pub use file::{
    Cluster, ConfigError, ConfigFile, HostFirewall, Kubernetes, PolicyCidrMatchMode, PolicyEnforcementMode,
    RoutingMode, Switch, UnderlayProtocol,
};
pub use ipam::{ClusterPool, Ipam, IpamMode};
pub use replica::Operator;

/// The operator's flags. Who it is comes from the downward API, what it shall do from the file.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "axoneme-operator", version, about = "Compiles a cluster's network state and serves it to its nodes")]
pub struct Flags {
    /// The settings, see the documentation of the file in the chart's values.
    #[arg(long, default_value = "/etc/axoneme/config/operator.yaml")]
    pub config: PathBuf,
    /// Name of this pod.
    #[arg(long)]
    pub pod_name: String,
    /// Namespace of this pod; the Lease, the CA and the list of operators are kept there.
    #[arg(long)]
    pub pod_namespace: String,
    /// UID of this pod.
    #[arg(long)]
    pub pod_uid: String,
    /// Node that this pod runs on.
    #[arg(long)]
    pub node_name: String,
    /// Address of this pod's host, under which nodes reach the operator.
    #[arg(long)]
    pub host_ip: IpAddr,
    /// Where `axoneme-operator status` asks.
    #[arg(long, default_value = axoneme_admin::DEFAULT_SOCKET)]
    pub admin_socket: PathBuf,
    /// What is logged, e.g. "info" or "info,axoneme_operator::ipam=debug".
    #[arg(long, default_value = "info")]
    pub log: String,
}

impl Flags {
    /// Reads the file that the flags name.
    ///
    /// # Errors
    /// When it cannot be read, is not the YAML described above, or its values make no sense together.
    pub fn read_config(&self) -> Result<ConfigFile, ConfigError> {
        ConfigFile::read(&self.config)
    }
}

/// What this binary asks the operator that runs in the same pod.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "axoneme-operator", version)]
pub enum Question {
    /// How it is: where it is in its life, what it publishes, and how far nodes follow
    Status {
        /// table or json
        #[arg(short, long, default_value = "table")]
        output: Format,
        /// Where it answers
        #[arg(long, default_value = axoneme_admin::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Whether packets of a flow would pass, and why
    Explain {
        #[command(flatten)]
        flow: Flow,
        /// table or json
        #[arg(short, long, default_value = "table")]
        output: Format,
        /// Where it answers
        #[arg(long, default_value = axoneme_admin::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
}

impl Question {
    /// Whether the first argument asks something: a word, where the operator itself has flags only.
    #[must_use]
    pub fn is_asked(first: Option<&str>) -> bool {
        first.is_some_and(|word| !word.starts_with('-'))
    }

    /// Asks, and writes the answer to standard output.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(&self) -> anyhow::Result<()> {
        let colours = output::colours(std::env::var("NO_COLOR").ok().as_deref());
        let text = match self {
            Self::Status { output: format, socket } => {
                let status: operator::Status = client::ask(socket, operator::subject::STATUS)?;
                format.text(&status, || show::operator(&status, colours))?
            }
            Self::Explain { flow, output: format, socket } => {
                let explanation: Explanation = client::ask(socket, &flow.subject()?)?;
                format.text(&explanation, || show::explanation(&explanation, colours))?
            }
        };
        Ok(output::print(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn flags_say_who_the_operator_is() {
        let flags = Flags::try_parse_from([
            "axoneme-operator",
            "--pod-name=o-1",
            "--pod-namespace=kube-system",
            "--pod-uid=1",
            "--node-name=n1",
            "--host-ip=fd00::1",
        ])
        .unwrap();
        assert_eq!(flags.config.to_str(), Some("/etc/axoneme/config/operator.yaml"));
        assert_eq!(flags.host_ip, "fd00::1".parse::<IpAddr>().unwrap());
        assert!(Flags::try_parse_from(["axoneme-operator"]).is_err());
    }
}
