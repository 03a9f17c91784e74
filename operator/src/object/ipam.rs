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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiliumNode {
    /// `metadata.name`, that of its Node.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// UID of the Node in `metadata.ownerReferences`, when there is one: Cilium and the first releases wrote it.
    pub node_uid: Option<Arc<str>>,
    /// `spec.ipam.podCIDRs`.
    pub pod_cidrs: Box<[IpNet]>,
    /// `spec.ipam.pool`: which pod has which address.
    pub pool: BTreeMap<IpAddr, PoolEntry>,
    /// `spec.addresses`.
    pub addresses: Box<[LedgerAddress]>,
}

impl CiliumNode {
    /// Addresses of one `type`.
    pub fn addresses_of(&self, kind: &str) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(move |entry| &*entry.kind == kind).map(|entry| entry.ip)
    }
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
