//! Service rows as frontends and backends. Pure: no ids, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use axoneme_bpf::service::{Backend, ServiceKey};
use axoneme_proto::tables::BackendState;

use crate::desired::Desired;
use crate::desired::rows::{Backends, NamedPort, Service};

/// Frontends that share their backends: one port of a service, in one family. Port and protocol 0: the bare addresses.
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
}

/// What a group shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Keys of `ax_services`.
    pub frontends: Vec<ServiceKey>,
    /// Sorted, so that equal sets are equal entries.
    pub backends: Vec<Backend>,
}

/// All groups of a service; none if it does not exist.
#[must_use]
pub fn groups(desired: &Desired, key: &str) -> BTreeMap<GroupKey, Group> {
    let mut out: BTreeMap<GroupKey, Group> = BTreeMap::new();
    let Some(service) = desired.service(key) else { return out };
    let slices: Vec<Backends> = desired.backends(key).collect();
    for port in &service.ports {
        for &address in &service.cluster_ips {
            let ipv4 = address.is_ipv4();
            let group = GroupKey { service: key.into(), protocol: port.protocol, port: port.port, ipv4 };
            let group = out
                .entry(group)
                .or_insert_with(|| Group { frontends: Vec::new(), backends: backends(&service, port, &slices, ipv4) });
            group.frontends.push(ServiceKey::new(address, port.port, port.protocol));
        }
    }
    // Without a port: tells programs that no other port of the address leads anywhere.
    for &address in &service.cluster_ips {
        let group = GroupKey { service: key.into(), protocol: 0, port: 0, ipv4: address.is_ipv4() };
        out.entry(group).or_default().frontends.push(ServiceKey::new(address, 0, 0));
    }
    out
}

/// The ready ones; without any, those that still serve while they terminate.
fn backends(service: &Service, port: &NamedPort, slices: &[Backends], ipv4: bool) -> Vec<Backend> {
    let (mut ready, mut terminating) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let Some(target) = slice.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol) else {
            continue;
        };
        for &(address, state) in slice.backends.iter().filter(|(address, _)| address.is_ipv4() == ipv4) {
            match state {
                BackendState::Ready => ready.insert((address, target.port)),
                BackendState::NotReady if service.publish_not_ready => ready.insert((address, target.port)),
                BackendState::Terminating => terminating.insert((address, target.port)),
                BackendState::NotReady => false,
            };
        }
    }
    let chosen: BTreeSet<(IpAddr, u16)> = if ready.is_empty() { terminating } else { ready };
    chosen.into_iter().map(|(address, port)| Backend::new(address, port)).collect()
}
