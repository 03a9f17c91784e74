//! `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy.

use std::sync::Arc;

use super::{Peer, PolicyPort, Selector};

/// A policy of the tier before or after those of namespaces. What the API server should refuse is kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworkPolicy {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// It only reports what it would drop.
    pub audits: bool,
    /// `spec.tier`: `Admin` or `Baseline`.
    pub tier: Box<str>,
    /// `spec.priority`, 0 to 1000: within a tier the lowest goes first.
    pub priority: i32,
    /// `spec.subject`, as a peer that selects namespaces, and pods in them.
    pub subject: Peer,
    /// `spec.ingress`: of those that match a packet the first counts.
    pub ingress: Box<[TieredRule]>,
    /// `spec.egress`.
    pub egress: Box<[TieredRule]>,
}

/// One of `spec.ingress` or `spec.egress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TieredRule {
    /// `action`: `Accept`, `Deny` or `Pass`.
    pub action: Box<str>,
    /// `from` or `to`.
    pub peers: Box<[TieredPeer]>,
    /// `protocols`; none: everything.
    pub ports: Box<[PolicyPort]>,
}

/// One of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TieredPeer {
    /// `namespaces` or `pods`, or one of `networks`.
    Peer(Peer),
    /// `nodes`.
    Nodes(Selector),
    /// `domainNames`.
    DomainNames,
    /// Something that this version does not know.
    Unknown,
}
