//! Service rows as frontends and backends. Pure: no ids, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axoneme_bpf::inet::{Family, Inet, Port};
use axoneme_bpf::service::{self as kernel, ServiceFlags, ServiceKey};
use axoneme_proto::tables::BackendState;

use crate::desired::Desired;
use crate::desired::rows::{self, Backends, NamedPort, Service};

/// Frontends that share their backends: one port of a service, in one family, from one place. Port and protocol 0: the bare
/// addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// "namespace/name".
    pub service: Box<str>,
    /// IANA number.
    pub protocol: u8,
    /// Host order.
    pub port: u16,
    /// Family of frontends and backends.
    pub ipv4: bool,
    /// Only backends of this node.
    pub local: bool,
}

/// Orders frontends; the kernel's key has no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend([u8; 16], u8, u16, u8);

impl From<ServiceKey> for Frontend {
    fn from(key: ServiceKey) -> Self {
        Self(key.address.bytes, key.family.0, key.port.0, key.protocol)
    }
}

impl From<Frontend> for ServiceKey {
    fn from(Frontend(bytes, family, port, protocol): Frontend) -> Self {
        Self { address: Inet { bytes }, port: Port(port), protocol, family: Family(family) }
    }
}

/// What a group shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Keys of `ax_services`, and for whom they are.
    pub frontends: BTreeMap<Frontend, ServiceFlags>,
    /// Sorted, so that equal sets are equal entries.
    pub backends: Vec<kernel::Backend>,
    /// For how many seconds a client keeps its backend; none: it does not.
    pub affinity: Option<u32>,
}

impl Group {
    /// How many backends it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.backends.len()).unwrap_or(u32::MAX)
    }
}

/// A backend that serves, with its address and port.
type Chosen<'a> = ((IpAddr, u16), &'a rows::Backend);

/// All groups of a service; none if it does not exist.
#[must_use]
pub fn groups(desired: &Desired, key: &str) -> BTreeMap<GroupKey, Group> {
    let mut out: BTreeMap<GroupKey, Group> = BTreeMap::new();
    let Some(service) = desired.service(key) else { return out };
    let slices: Vec<Backends> = desired.backends(key).collect();
    let zone = desired.zone();
    let near = Near { node: desired.node_name(), zone: &zone };
    let families: BTreeSet<bool> = service.cluster_ips.iter().map(IpAddr::is_ipv4).collect();
    for port in &service.ports {
        let NamedPort { protocol, port: number, .. } = port.target;
        let mut lead = |frontend: ServiceKey, flags, local| {
            let ipv4 = frontend.family == Family::IPV4;
            let group = GroupKey { service: key.into(), protocol, port: number, ipv4, local };
            let group = out.entry(group).or_insert_with_key(|group| Group {
                frontends: BTreeMap::new(),
                backends: near.backends(&service, &port.target.name, &slices, group),
                affinity: service.affinity,
            });
            group.frontends.insert(frontend.into(), flags);
        };
        for &address in &service.cluster_ips {
            lead(ServiceKey::new(address, number, protocol), ServiceFlags::NONE, service.internal_local);
        }
        let external = service.external_ips.iter().map(|&address| (address, number));
        let at_nodes = families.iter().flat_map(|ipv4| Some((of_nodes(*ipv4), port.node_port?)));
        for (address, number) in external.chain(at_nodes) {
            let frontend = ServiceKey::new(address, number, protocol);
            if service.external_local {
                lead(frontend, ServiceFlags::OUTSIDE | ServiceFlags::APART, false);
                lead(frontend.apart(), ServiceFlags::OUTSIDE, true);
            } else {
                lead(frontend, ServiceFlags::OUTSIDE, false);
            }
        }
    }
    // Without a port: tells programs that no other port of the address leads anywhere.
    for &address in &service.cluster_ips {
        let group = GroupKey { service: key.into(), protocol: 0, port: 0, ipv4: address.is_ipv4(), local: false };
        out.entry(group).or_default().frontends.insert(ServiceKey::new(address, 0, 0).into(), ServiceFlags::NONE);
    }
    out
}

/// Stands for the addresses of all nodes.
fn of_nodes(ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where this node is.
struct Near<'a> {
    node: &'a str,
    zone: &'a str,
}

impl Near<'_> {
    /// The ready ones, those that are meant for here if all are meant for somebody; without any, those that still serve while they
    /// terminate.
    fn backends(&self, service: &Service, port: &str, slices: &[Backends], group: &GroupKey) -> Vec<kernel::Backend> {
        let (mut ready, mut terminating) = (BTreeMap::new(), BTreeMap::new());
        for slice in slices {
            let named = |target: &&NamedPort| target.name == port && target.protocol == group.protocol;
            let Some(target) = slice.ports.iter().find(named) else { continue };
            let family = slice.backends.iter().filter(|backend| backend.address.is_ipv4() == group.ipv4);
            for backend in family.filter(|backend| !group.local || backend.node == self.node) {
                let at = (backend.address, target.port);
                match backend.state {
                    BackendState::Ready => ready.insert(at, backend),
                    BackendState::NotReady if service.publish_not_ready => ready.insert(at, backend),
                    BackendState::Terminating => terminating.insert(at, backend),
                    BackendState::NotReady => None,
                };
            }
        }
        let chosen: Vec<_> = if ready.is_empty() { terminating } else { ready }.into_iter().collect();
        let near = if group.local { None } else { self.meant(&chosen) };
        let backends = near.unwrap_or(chosen).into_iter();
        backends.map(|((address, port), _)| kernel::Backend::new(address, port)).collect()
    }

    /// Those that are meant for clients of this node, else of this zone; none where some are meant for anybody, or none for here.
    fn meant<'a>(&self, all: &[Chosen<'a>]) -> Option<Vec<Chosen<'a>>> {
        let hinted = |hints: fn(&rows::Backend) -> &[String], here: &str| {
            let known = !here.is_empty() && all.iter().all(|(_, backend)| !hints(backend).is_empty());
            let here = |(_, backend): &&Chosen<'a>| hints(backend).iter().any(|name| name == here);
            let meant: Vec<_> = all.iter().filter(here).copied().collect();
            (known && !meant.is_empty()).then_some(meant)
        };
        hinted(|backend| &backend.for_nodes, self.node).or_else(|| hinted(|backend| &backend.for_zones, self.zone))
    }
}
