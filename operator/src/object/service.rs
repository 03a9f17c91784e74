//! Services and their endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Name, Protocol};

/// `spec.type` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as Kubernetes names them")]
pub enum ServiceKind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// What the operator needs of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// Its own labels.
    pub labels: Labels,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `spec.selector`: labels of the pods behind it; none: somebody else makes its slices.
    pub selector: Labels,
    /// `spec.clusterIPs` without `None`.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.clusterIP` is `None`: nothing to translate.
    pub headless: bool,
    /// Its ports.
    pub ports: Box<[ServicePort]>,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds` when affinity is `ClientIP`.
    pub affinity_seconds: Option<u32>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
}

/// `spec.ports[]` of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty when there is only one.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// What the operator needs of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: Name,
    /// Label `kubernetes.io/service-name`: the service in the same namespace, empty when it has none.
    pub service: Arc<str>,
    /// Its ports; one without number (all ports) is left out.
    pub ports: Box<[SlicePort]>,
    /// Its endpoints. Slices of address type FQDN have none here.
    pub endpoints: Box<[Endpoint]>,
}

/// `ports[]` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Matches the service port's name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The target port.
    pub port: u16,
}

/// `endpoints[]` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses, of which exactly one counts.
    pub addresses: Box<[IpAddr]>,
    /// `conditions.ready`; unknown counts as true.
    pub ready: bool,
    /// `conditions.serving`; unknown counts as `ready`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
}
