//! A pod's two rows: what its node needs of it, and what its peers do.

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;

use super::policy::Excepted;
use super::{Output, bytes_of, output};
use crate::config::IpamMode;
use crate::index::{Index, PodEntry};
use crate::object::{Bandwidth, Name};
use crate::table::RowId;

/// What of the configuration these rows depend on.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Limits of bandwidth count.
    pub bandwidth: bool,
    /// Identities that some policy treats worse than pods at large.
    pub excepted: &'a Excepted,
}

/// The pod's rows in `node/<name>` and `peers/<identity>`. It has both as soon as it is bound and has identity and addresses.
/// Where another plugin gives addresses, its node needs the first one to attach it, and addresses come after that.
#[must_use]
pub fn rows(index: &Index, pod: &Name, options: Options<'_>) -> [Option<Output>; 2] {
    let Some(decided) = index.pod(pod).and_then(|entry| decided(index, entry)) else { return [None, None] };
    let addressed = index.is_addressed(decided.entry, &decided.addresses);
    let delegated = index.config().ipam == IpamMode::DelegatedPlugin;
    let own = if delegated { &[][..] } else { &decided.addresses };
    let endpoint = (addressed || delegated).then(|| endpoint(&decided, own, options));
    [endpoint, addressed.then(|| peer(&decided))]
}

/// A pod that has a place and an identity.
struct Decided<'a> {
    entry: &'a PodEntry,
    identity: u32,
    node: &'a Arc<str>,
    addresses: Vec<IpAddr>,
}

fn decided<'a>(index: &Index, entry: &'a PodEntry) -> Option<Decided<'a>> {
    let identity = index.identity_of(entry)?;
    let node = entry.pod.node.as_ref()?;
    Some(Decided { entry, identity, node, addresses: index.addresses_of(entry) })
}

fn endpoint(decided: &Decided<'_>, addresses: &[IpAddr], options: Options<'_>) -> Output {
    let pod = &decided.entry.pod;
    let bandwidth = if options.bandwidth { pod.bandwidth } else { Bandwidth::default() };
    let row = tables::Endpoint {
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
        pod_uid: pod.endpoint_key().to_string(),
        identity: decided.identity,
        addresses: bytes_of(addresses.iter().copied()),
        named_ports: pod.ports.iter().map(|port| (port.name.to_string(), port.port.into())).collect(),
        service_account: pod.service_account.to_string(),
        egress_bits_per_second: bandwidth.egress,
        ingress_bits_per_second: bandwidth.ingress,
        strict_barrier: options.excepted.contains(decided.identity),
    };
    let scope = Scope::Node(decided.node.to_string());
    output(RowId::new(scope, Table::Endpoint, Arc::clone(pod.endpoint_key())), &row)
}

fn peer(decided: &Decided<'_>) -> Output {
    let pod = &decided.entry.pod;
    let row = tables::Peer {
        identity: decided.identity,
        addresses: bytes_of(decided.addresses.iter().copied()),
        node: decided.node.to_string(),
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
    };
    output(RowId::new(Scope::Peers(decided.identity), Table::Peer, Arc::clone(pod.endpoint_key())), &row)
}
