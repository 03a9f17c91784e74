//! Pods.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Name, PoolChoice, Protocol};

/// What the operator needs of a pod. The default is one of which nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// Annotation `kubernetes.io/config.mirror` of a static pod's mirror: kubelet and CNI know the pod by this and not by the
    /// UID that the API server gave.
    pub mirror: Option<Arc<str>>,
    /// Its own labels.
    pub labels: Labels,
    /// The node that it is bound to.
    pub node: Option<Arc<str>>,
    /// It lives in the node's network namespace: no endpoint, no address, no identity of its own.
    pub host_network: bool,
    /// `spec.serviceAccountName`, empty when unset.
    pub service_account: Arc<str>,
    /// Ports that its containers declare, with a name.
    pub ports: Box<[ContainerPort]>,
    /// Limits that its annotations ask for.
    pub bandwidth: Bandwidth,
    /// What its annotations say of pools.
    pub pools: PoolChoice,
    /// `status.podIPs`: what it was attached with, as the kubelet reports it.
    pub ips: Box<[IpAddr]>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Its phase is Succeeded or Failed.
    pub finished: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

impl Pod {
    /// The key of the pod's endpoint in rows, ledgers and on the node.
    #[must_use]
    pub fn endpoint_key(&self) -> &Arc<str> {
        self.mirror.as_ref().unwrap_or(&self.uid)
    }
}

/// How fast a pod may send and get, in bits per second; 0: as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Annotation `kubernetes.io/egress-bandwidth`.
    pub egress: u64,
    /// Annotation `kubernetes.io/ingress-bandwidth`.
    pub ingress: u64,
}

/// A container port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Its name, unique in the pod by protocol.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}
