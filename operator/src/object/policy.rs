//! `networking.k8s.io/v1` NetworkPolicy.
//!
//! Values that the API server should refuse, but that may be stored all the same, are kept as they were written (protocols,
//! CIDRs, ports out of range), so that the compiler can say which field is wrong.

use std::sync::Arc;

use super::{Name, Selector};

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// It only reports what it would drop.
    pub audits: bool,
    /// The pods of its namespace that it isolates.
    pub pod_selector: Selector,
    /// `spec.ingress`; absent and empty mean the same.
    pub ingress: Box<[PolicyRule]>,
    /// `spec.egress`; absent and empty mean the same.
    pub egress: Box<[PolicyRule]>,
    /// `spec.policyTypes` when set; else ingress, and egress if there are egress rules.
    pub policy_types: Option<Box<[PolicyType]>>,
}

/// An entry of `spec.policyTypes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyType {
    /// `Ingress`.
    Ingress,
    /// `Egress`.
    Egress,
    /// Anything else, as written.
    Unknown(Box<str>),
}

/// Seen from the selected pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards it.
    Ingress,
    /// From it.
    Egress,
}

/// One of `spec.ingress` or `spec.egress`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// `from` or `to`; none: everything.
    pub peers: Box<[Peer]>,
    /// `ports`; none: all of them.
    pub ports: Box<[PolicyPort]>,
}

/// One of `from` or `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `podSelector`; alone it means pods of the policy's namespace.
    pub pod_selector: Option<Selector>,
    /// `namespaceSelector`.
    pub namespace_selector: Option<Selector>,
    /// `ipBlock`; excludes the other two.
    pub ip_block: Option<IpBlock>,
}

/// `ipBlock`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpBlock {
    /// `cidr`.
    pub cidr: Box<str>,
    /// `except`.
    pub except: Box<[Box<str>]>,
}

/// One of `ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPort {
    /// `protocol` as written; absent: TCP.
    pub protocol: Option<Box<str>>,
    /// `port`; absent: all ports of the protocol.
    pub port: Option<PortRef>,
    /// `endPort`: the range from `port` to it.
    pub end_port: Option<i32>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// As written, also when out of range.
    Number(i32),
    /// A container port's name.
    Name(Box<str>),
}
