//! Kubernetes objects as the rest of the operator sees them: slim and pure.
//!
//! The watch stage makes these from API objects and drops every field that nobody compiles. Nothing behind this border knows
//! a Kubernetes client type, so index and compiler can be tested with values written by hand.

#[cfg(any(test, feature = "testing"))]
pub mod arbitrary;
mod cidr_group;
mod cilium_policy;
mod cluster_network_policy;
mod ipam;
mod key;
mod labels;
mod masquerade;
mod node;
mod node_config;
mod pod;
mod policy;
mod pool;
mod selector;
mod service;
mod versions;

pub use cidr_group::CidrGroup;
pub use cilium_policy::{CiliumPolicy, CiliumRule, VALID, Validity};
pub use cluster_network_policy::{ClusterNetworkPolicy, TieredPeer, TieredRule};
pub use ipam::{CiliumIdentity, CiliumNode, LedgerAddress, NodePool, PoolEntry, PoolRequest};
pub use key::{Kind, Name, ObjectKey};
pub use labels::Labels;
pub use masquerade::MasqueradeAgent;
pub use node::{Namespace, Node};
pub use node_config::{NodeConfig, Override};
pub use pod::{Bandwidth, ContainerPort, Pod};
pub use policy::{Direction, IpBlock, NetworkPolicy, Peer, PolicyPort, PolicyRule, PolicyType, PortRef};
pub use pool::{DEFAULT_POOL, IP_POOL, IPV4_POOL, IPV6_POOL, PodIpPool, PoolChoice, PoolCidrs, REQUIRE_POOL_MATCH};
pub use selector::{Operator, Requirement, Selector};
pub use service::{Endpoint, EndpointSlice, Frontend, Service, ServiceKind, ServicePort, SlicePort};
pub use versions::Versions;

use std::fmt;
use std::sync::Arc;

/// A transport protocol that Kubernetes objects may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, the default wherever Kubernetes lets the protocol away.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them, by IANA number.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol that Kubernetes calls `text`, exactly as the API writes it.
    #[must_use]
    pub fn from_kubernetes(text: &str) -> Option<Self> {
        match text {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// One object of any watched kind, shared between index and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant holds the type of its name, ConfigMap the one that is read")]
pub enum Object {
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    NetworkPolicy(Arc<NetworkPolicy>),
    CiliumNetworkPolicy(Arc<CiliumPolicy>),
    CiliumClusterwideNetworkPolicy(Arc<CiliumPolicy>),
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
    CiliumCIDRGroup(Arc<CidrGroup>),
    CiliumIdentity(Arc<CiliumIdentity>),
    CiliumNode(Arc<CiliumNode>),
    CiliumPodIPPool(Arc<PodIpPool>),
    CiliumNodeConfig(Arc<NodeConfig>),
    ConfigMap(Arc<MasqueradeAgent>),
}

impl Object {
    /// Kind, namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Pod(pod) => ObjectKey::namespaced(Kind::Pod, &pod.name),
            Self::Node(node) => ObjectKey::cluster(Kind::Node, &node.name),
            Self::Namespace(namespace) => ObjectKey::cluster(Kind::Namespace, &namespace.name),
            Self::Service(service) => ObjectKey::namespaced(Kind::Service, &service.name),
            Self::EndpointSlice(slice) => ObjectKey::namespaced(Kind::EndpointSlice, &slice.name),
            Self::NetworkPolicy(policy) => ObjectKey::namespaced(Kind::NetworkPolicy, &policy.name),
            Self::CiliumNetworkPolicy(policy) => ObjectKey::namespaced(Kind::CiliumNetworkPolicy, &policy.name),
            Self::CiliumClusterwideNetworkPolicy(policy) => {
                ObjectKey::namespaced(Kind::CiliumClusterwideNetworkPolicy, &policy.name)
            }
            Self::ClusterNetworkPolicy(policy) => ObjectKey::cluster(Kind::ClusterNetworkPolicy, &policy.name),
            Self::CiliumCIDRGroup(group) => ObjectKey::cluster(Kind::CiliumCIDRGroup, &group.name),
            Self::CiliumIdentity(identity) => {
                ObjectKey::cluster(Kind::CiliumIdentity, &Arc::from(identity.id.to_string()))
            }
            Self::CiliumNode(node) => ObjectKey::cluster(Kind::CiliumNode, &node.name),
            Self::CiliumPodIPPool(pool) => ObjectKey::cluster(Kind::CiliumPodIPPool, &pool.name),
            Self::CiliumNodeConfig(config) => ObjectKey::namespaced(Kind::CiliumNodeConfig, &config.name),
            Self::ConfigMap(agent) => ObjectKey::namespaced(Kind::ConfigMap, &agent.name),
        }
    }
}
