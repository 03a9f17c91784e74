//! The objects that hold the operator's own decisions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Labels;

/// A `CiliumIdentity`: a label set has this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiliumIdentity {
    /// `metadata.name` as a number.
    pub id: u32,
    /// `security-labels`: `source:key` to value.
    pub labels: Arc<Labels>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

/// A `CiliumNode`: the ledger of one node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumNode {
    /// `metadata.name`, that of its Node.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// UID of the Node in `metadata.ownerReferences`, when there is one: Cilium and the first releases wrote it.
    pub node_uid: Option<Arc<str>>,
    /// It stays when its Node is gone: its annotation `cilium.io/do-not-gc` says so, or something else than a Node owns it.
    pub keep: bool,
    /// `spec.ipam.podCIDRs`.
    pub pod_cidrs: Box<[IpNet]>,
    /// `spec.ipam.pool`: which pod has which address.
    pub pool: BTreeMap<IpAddr, PoolEntry>,
    /// `spec.addresses`.
    pub addresses: Box<[LedgerAddress]>,
    /// `spec.ipam.pools.allocated`, sorted by name.
    pub pools: Box<[NodePool]>,
    /// `spec.ipam.pools.requested`, sorted by name.
    pub requested: Box<[PoolRequest]>,
}

impl CiliumNode {
    /// All CIDRs of the node, of whatever mode.
    pub fn cidrs(&self) -> impl Iterator<Item = &IpNet> {
        self.pod_cidrs.iter().chain(self.pools.iter().flat_map(|pool| &pool.cidrs))
    }

    /// Addresses of one `type`.
    pub fn addresses_of(&self, kind: &str) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(move |entry| &*entry.kind == kind).map(|entry| entry.ip)
    }
}

/// What a node has of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePool {
    /// The pool.
    pub name: Arc<str>,
    /// Its CIDRs.
    pub cidrs: Box<[IpNet]>,
    /// The first address of each may be a pod's.
    pub allow_first_ip: bool,
    /// The last one may.
    pub allow_last_ip: bool,
}

/// How many addresses a node needs of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequest {
    /// The pool.
    pub pool: Arc<str>,
    /// IPv4 addresses.
    pub ipv4: u32,
    /// IPv6 addresses.
    pub ipv6: u32,
}

/// `spec.addresses[]` of a `CiliumNode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAddress {
    /// `InternalIP`, `ExternalIP`, `CiliumInternalIP`, ...
    pub kind: Box<str>,
    /// The address.
    pub ip: IpAddr,
}

/// `spec.ipam.pool[address]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEntry {
    /// `namespace/name` of the pod, for people.
    pub owner: Arc<str>,
    /// `resource`: the pod's endpoint key (its UID; for mirror pods their `config.mirror`).
    pub resource: Arc<str>,
}
