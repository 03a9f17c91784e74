//! Rows decoded and checked: what the rest of the daemon may rely on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::address::{InvalidAddress, from_bytes};
use axoneme_proto::tables::{self, BackendState, RoutingMode};
use axoneme_proto::{Scope, Table};
use ipnet::IpNet;
use prost::Message;

use super::HOST;
use super::pods::Limits;
use crate::reconcile::ops::Routing;
use crate::reconcile::policy::translate;

/// Why a row makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRow {
    /// The payload is not the table's message.
    #[error("the payload cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    /// An address or prefix is malformed.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A number is beyond what its field can hold.
    #[error("{field} {value} is out of range")]
    Range {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u32,
    },
    /// An enumeration has a value this build does not know.
    #[error("{field} {value} is not known to this version")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// Key, scope and content contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// The table is not known to this build.
    #[error("table {0} is not known to this version")]
    Table(i32),
}

/// Settings of the cluster, or of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How pods reach other nodes' pods.
    pub routing: Routing,
    /// Pods' addresses in the whole cluster.
    pub pod_cidrs: Vec<IpNet>,
    /// IPv4 connections to outside the cluster leave with the node's address.
    pub masquerade_ipv4: bool,
    /// The same for IPv6.
    pub masquerade_ipv6: bool,
    /// MTU of pods; 0: derived.
    pub mtu: u32,
    /// Destinations outside the cluster that see pods' own addresses all the same.
    pub no_masquerade: Vec<IpNet>,
    /// Native routing: nodes keep routes to the pods of their neighbours.
    pub direct_routes: bool,
    /// ... and expect others to keep those to nodes that are none.
    pub skip_unreachable: bool,
    /// Tunnel ends are nodes' IPv6 addresses.
    pub tunnel_over_ipv6: bool,
    /// Flows that rules allow are told of.
    pub verdict_events: bool,
}

/// Below these no link of the family works: RFC 791 and RFC 8200.
const LEAST_MTU: (u32, u32) = (68, 1280);

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its underlay addresses.
    pub addresses: Vec<IpAddr>,
    /// Its overlay addresses.
    pub overlay_addresses: Vec<IpAddr>,
    /// Its pods' prefixes.
    pub pod_cidrs: Vec<IpNet>,
}

/// A service's frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its cluster addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses for those outside of the cluster, given by people or by a load balancer.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Backends count even when they are not ready.
    pub publish_not_ready: bool,
    /// Cluster addresses lead to backends of this node only.
    pub internal_local: bool,
    /// Clients outside of the cluster get backends of this node only.
    pub external_local: bool,
    /// For how long a client keeps its backend; none: it does not.
    pub affinity: Option<u32>,
}

/// A service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Which of the slices' ports it leads to.
    pub target: NamedPort,
    /// Its number at nodes' addresses, if it has one.
    pub node_port: Option<u16>,
}

/// A port by name and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name, empty if it has none.
    pub name: String,
    /// IANA number.
    pub protocol: u8,
    /// Host order.
    pub port: u16,
}

/// One EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// Key of its service's row.
    pub service: String,
    /// Ports of every backend.
    pub ports: Vec<NamedPort>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Whether it serves.
    pub state: BackendState,
    /// Its node, empty if it has none.
    pub node: String,
    /// For clients of which zones it is meant; empty: for all.
    pub for_zones: Vec<String>,
    /// Of which nodes.
    pub for_nodes: Vec<String>,
}

/// A pod somewhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub identity: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Name of its node.
    pub node: String,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub identity: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports by name.
    pub named_ports: BTreeMap<String, u16>,
    /// How fast it may send and get.
    pub limits: Limits,
    /// Its ADD must not succeed before its peers were told of it.
    pub strict_barrier: bool,
}

/// What this node may assign without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The node's prefixes in this pool.
    pub cidrs: Vec<IpNet>,
    /// The node's overlay addresses.
    pub overlay_addresses: Vec<IpAddr>,
    /// Inclusive ranges that only the node assigns from.
    pub reserve: Vec<(IpAddr, IpAddr)>,
}

/// A decoded row.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of `cluster`, or of `node/<name>` in its place.
    Settings(Settings),
    /// Of `cluster`.
    Node(Node),
    /// Of `services`.
    Service(Service),
    /// Of `services`.
    Backends(Backends),
    /// Of `policy/<identity>`.
    Policy(tables::Policy),
    /// Of `peers/<identity>`.
    Peer(Peer),
    /// Of `node/<name>`.
    Endpoint(Endpoint),
    /// Of `node/<name>`.
    Pool(Pool),
    /// Of `node/<name>`: whether the namespace has a policy.
    Namespace(bool),
}

/// Decodes and checks a row of `table` in `scope`.
///
/// # Errors
/// When the payload is no such row, or contradicts its key or scope.
pub fn decode(scope: &Scope, table: i32, key: &str, payload: &[u8]) -> Result<Content, InvalidRow> {
    let known = Table::try_from(table).map_err(|_| InvalidRow::Table(table))?;
    match (known, scope) {
        (Table::Settings, Scope::Cluster | Scope::Node(_)) => {
            settings(&tables::Settings::decode(payload)?).map(Content::Settings)
        }
        (Table::Node, Scope::Cluster) => node(&tables::Node::decode(payload)?).map(Content::Node),
        (Table::Service, Scope::Services) => service(tables::Service::decode(payload)?).map(Content::Service),
        (Table::Backends, Scope::Services) => backends(tables::Backends::decode(payload)?).map(Content::Backends),
        (Table::Policy, Scope::Policy(identity)) => policy(payload, *identity),
        (Table::Policy, Scope::Node(_)) => policy(payload, HOST),
        (Table::Peer, Scope::Peers(identity)) => {
            let peer = tables::Peer::decode(payload)?;
            same_identity(peer.identity, *identity)?;
            Ok(Content::Peer(Peer { identity: peer.identity, addresses: addresses(&peer.addresses)?, node: peer.node }))
        }
        (Table::Endpoint, Scope::Node(_)) => endpoint(tables::Endpoint::decode(payload)?).map(Content::Endpoint),
        (Table::Pool, Scope::Node(_)) => pool(&tables::Pool::decode(payload)?).map(Content::Pool),
        (Table::Namespace, Scope::Node(_)) => Ok(Content::Namespace(tables::Namespace::decode(payload)?.has_policy)),
        (Table::Unspecified, _) => Err(InvalidRow::Table(table)),
        (known, scope) => {
            Err(InvalidRow::Contradiction(format!("a row {known:?} {key:?} does not belong in scope {scope}")))
        }
    }
}

fn policy(payload: &[u8], identity: u32) -> Result<Content, InvalidRow> {
    let policy = tables::Policy::decode(payload)?;
    same_identity(policy.identity, identity)?;
    translate::compile(&policy)?;
    Ok(Content::Policy(policy))
}

fn same_identity(row: u32, scope: u32) -> Result<(), InvalidRow> {
    if row == scope {
        return Ok(());
    }
    Err(InvalidRow::Contradiction(format!("a row of identity {row} does not belong in the scope of identity {scope}")))
}

fn settings(row: &tables::Settings) -> Result<Settings, InvalidRow> {
    let routing = match RoutingMode::try_from(row.routing_mode) {
        Ok(RoutingMode::Vxlan) => Routing::Vxlan { port: narrow("tunnel port", row.tunnel_port)? },
        Ok(RoutingMode::Native) => Routing::Native,
        _ => return Err(InvalidRow::Unknown { field: "routing mode", value: row.routing_mode }),
    };
    let least = if row.ipv6 { LEAST_MTU.1 } else { LEAST_MTU.0 };
    if row.mtu != 0 && !(least..=u32::from(u16::MAX)).contains(&row.mtu) {
        return Err(InvalidRow::Range { field: "MTU", value: row.mtu });
    }
    Ok(Settings {
        routing,
        pod_cidrs: prefixes(&row.pod_cidrs)?,
        masquerade_ipv4: row.masquerade_ipv4,
        masquerade_ipv6: row.masquerade_ipv6,
        mtu: row.mtu,
        no_masquerade: prefixes(&row.no_masquerade)?,
        // Where pods are tunnelled, there is nothing to route.
        direct_routes: row.auto_direct_node_routes && routing == Routing::Native,
        skip_unreachable: row.direct_routes_skip_unreachable,
        tunnel_over_ipv6: row.tunnel_over_ipv6,
        verdict_events: row.verdict_events,
    })
}

fn node(row: &tables::Node) -> Result<Node, InvalidRow> {
    Ok(Node {
        addresses: addresses(&row.addresses)?,
        overlay_addresses: addresses(&row.overlay_addresses)?,
        pod_cidrs: prefixes(&row.pod_cidrs)?,
    })
}

fn service(row: tables::Service) -> Result<Service, InvalidRow> {
    let port = |port: tables::ServicePort| {
        let node_port = narrow("node port", port.node_port)?;
        let target = named_port(port.name, port.protocol, port.port)?;
        Ok(ServicePort { target, node_port: (node_port != 0).then_some(node_port) })
    };
    let external = [addresses(&row.external_ips)?, addresses(&row.load_balancer_ips)?];
    Ok(Service {
        cluster_ips: addresses(&row.cluster_ips)?,
        external_ips: external.concat(),
        ports: row.ports.into_iter().map(port).collect::<Result<_, InvalidRow>>()?,
        publish_not_ready: row.publish_not_ready,
        internal_local: row.internal_local,
        external_local: row.external_local,
        affinity: (row.affinity_seconds != 0).then_some(row.affinity_seconds),
    })
}

fn backends(row: tables::Backends) -> Result<Backends, InvalidRow> {
    let mut backends = Vec::with_capacity(row.backends.len());
    for backend in row.backends {
        let state = BackendState::try_from(backend.state)
            .map_err(|_| InvalidRow::Unknown { field: "backend state", value: backend.state })?;
        for address in addresses(&backend.addresses)? {
            let (node, for_zones, for_nodes) =
                (backend.node.clone(), backend.for_zones.clone(), backend.for_nodes.clone());
            backends.push(Backend { address, state, node, for_zones, for_nodes });
        }
    }
    let ports = row.ports.into_iter().map(|p| named_port(p.name, p.protocol, p.port)).collect::<Result<_, _>>()?;
    Ok(Backends { service: format!("{}/{}", row.namespace, row.service), ports, backends })
}

fn endpoint(row: tables::Endpoint) -> Result<Endpoint, InvalidRow> {
    let mut named_ports = BTreeMap::new();
    for (name, port) in row.named_ports {
        named_ports.insert(name, narrow("named port", port)?);
    }
    Ok(Endpoint {
        namespace: row.namespace,
        name: row.name,
        identity: row.identity,
        addresses: addresses(&row.addresses)?,
        named_ports,
        limits: Limits {
            egress: bytes_per_second(row.egress_bits_per_second),
            ingress: bytes_per_second(row.ingress_bits_per_second),
        },
        strict_barrier: row.strict_barrier,
    })
}

/// Less than a byte a second is not no limit.
fn bytes_per_second(bits: u64) -> u64 {
    bits.div_ceil(8)
}

fn pool(row: &tables::Pool) -> Result<Pool, InvalidRow> {
    let reserve = row.reserve.iter().map(|range| {
        let (first, last) = (from_bytes(&range.first)?, from_bytes(&range.last)?);
        if first.is_ipv4() == last.is_ipv4() && first <= last {
            Ok((first, last))
        } else {
            Err(InvalidRow::Contradiction(format!("{first} to {last} is no range")))
        }
    });
    Ok(Pool {
        cidrs: prefixes(&row.cidrs)?,
        overlay_addresses: addresses(&row.overlay_addresses)?,
        reserve: reserve.collect::<Result<_, _>>()?,
    })
}

fn named_port(name: String, protocol: u32, port: u32) -> Result<NamedPort, InvalidRow> {
    Ok(NamedPort { name, protocol: narrow("protocol", protocol)?, port: narrow("port", port)? })
}

/// `value` in fewer bits.
pub(crate) fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, InvalidRow> {
    T::try_from(value).map_err(|_| InvalidRow::Range { field, value })
}

fn addresses(bytes: &[impl AsRef<[u8]>]) -> Result<Vec<IpAddr>, InvalidRow> {
    Ok(bytes.iter().map(|b| from_bytes(b.as_ref())).collect::<Result<_, _>>()?)
}

fn prefixes(rows: &[tables::Prefix]) -> Result<Vec<IpNet>, InvalidRow> {
    rows.iter().map(prefix).collect()
}

/// A prefix, checked.
pub(crate) fn prefix(row: &tables::Prefix) -> Result<IpNet, InvalidRow> {
    let (address, length) = row.parse()?;
    Ok(IpNet::new_assert(address, length))
}
