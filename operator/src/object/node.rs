//! Nodes and namespaces.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Labels, PoolChoice};

/// What the operator needs of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`: a node that was deleted and registered again is another one.
    pub uid: Arc<str>,
    /// Addresses of type InternalIP, in the order of the API.
    pub internal_ips: Box<[IpAddr]>,
    /// Addresses of type ExternalIP.
    pub external_ips: Box<[IpAddr]>,
    /// Its labels.
    pub labels: Labels,
    /// `status.allocatable.pods` (or capacity), 0 when unknown.
    pub max_pods: u32,
    /// `spec.podCIDRs`, for the Kubernetes IPAM mode.
    pub pod_cidrs: Box<[IpNet]>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Its labels; the API server always sets `kubernetes.io/metadata.name`.
    pub labels: Labels,
    /// What its annotations say of the pools of its pods.
    pub pools: PoolChoice,
}
