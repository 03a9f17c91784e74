//! A pod's two rows: what its node needs of it, and what its peers do.

use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;

use super::{Output, bytes_of, output};
use crate::index::{Index, PodEntry};
use crate::object::Name;
use crate::table::RowId;

/// The pod's rows in `node/<name>` and `peers/<identity>`. It has both as soon as it is bound and has identity and address.
#[must_use]
pub fn rows(index: &Index, pod: &Name) -> [Option<Output>; 2] {
    let rows = index.pod(pod).and_then(|entry| decided(index, entry));
    rows.map_or([None, None], |decided| [Some(endpoint(&decided)), Some(peer(&decided))])
}

/// A pod about which everything is decided.
struct Decided<'a> {
    entry: &'a PodEntry,
    identity: u32,
    node: &'a Arc<str>,
    addresses: Vec<Vec<u8>>,
}

fn decided<'a>(index: &Index, entry: &'a PodEntry) -> Option<Decided<'a>> {
    let identity = index.identity_of(entry)?;
    let node = entry.pod.node.as_ref()?;
    let addresses = bytes_of(index.addresses_of(entry));
    (!addresses.is_empty()).then_some(Decided { entry, identity, node, addresses })
}

fn endpoint(decided: &Decided<'_>) -> Output {
    let pod = &decided.entry.pod;
    let row = tables::Endpoint {
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
        pod_uid: pod.endpoint_key().to_string(),
        identity: decided.identity,
        addresses: decided.addresses.clone(),
        named_ports: pod.ports.iter().map(|port| (port.name.to_string(), port.port.into())).collect(),
        service_account: pod.service_account.to_string(),
        ..tables::Endpoint::default()
    };
    let scope = Scope::Node(decided.node.to_string());
    output(RowId::new(scope, Table::Endpoint, Arc::clone(pod.endpoint_key())), &row)
}

fn peer(decided: &Decided<'_>) -> Output {
    let pod = &decided.entry.pod;
    let row = tables::Peer {
        identity: decided.identity,
        addresses: decided.addresses.clone(),
        node: decided.node.to_string(),
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
    };
    output(RowId::new(Scope::Peers(decided.identity), Table::Peer, Arc::clone(pod.endpoint_key())), &row)
}
