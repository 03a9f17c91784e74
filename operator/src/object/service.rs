//! Services and their endpoints.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
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
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// Addresses of `status.loadBalancer.ingress` whose mode is `VIP`: packets to them come to nodes as they are.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// `spec.externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// Label `service.kubernetes.io/service-proxy-name`: somebody else serves it.
    pub of_another_proxy: bool,
}

impl Service {
    /// Whether nodes translate it: it has addresses, and nobody else serves it.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        let has_address = !self.headless && self.kind != ServiceKind::ExternalName && !self.cluster_ips.is_empty();
        has_address && !self.of_another_proxy
    }

    /// Where it is found, nodes' addresses aside, with the field that says so.
    pub fn frontends(&self) -> impl Iterator<Item = (Frontend, &'static str)> {
        let fields = [
            ("spec.clusterIPs", &self.cluster_ips),
            ("spec.externalIPs", &self.external_ips),
            ("status.loadBalancer.ingress", &self.load_balancer_ips),
        ];
        let addresses = fields.into_iter().filter(|_| self.is_translated());
        let addresses = addresses.flat_map(|(field, addresses)| addresses.iter().map(move |address| (field, *address)));
        addresses.flat_map(|(field, address)| {
            let at = move |port: &ServicePort| Frontend { address, protocol: port.protocol, port: port.port };
            self.ports.iter().map(move |port| (at(port), field))
        })
    }
}

/// One port of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// The address.
    pub address: IpAddr,
    /// The port's protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// As people write it: `10.96.0.1:80/TCP`.
impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol)
    }
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
    /// `nodePort`: its number at nodes' addresses, if it has one.
    pub node_port: Option<u16>,
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
    /// `hints.forZones`: whose clients it is meant for; none: anybody's.
    pub for_zones: Box<[Arc<str>]>,
    /// `hints.forNodes`, likewise.
    pub for_nodes: Box<[Arc<str>]>,
}
