//! The rest of `node/<name>`: its pool and the namespaces of its pods.

use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;
use axoneme_proto::tables::AddressRange;

use super::cluster::{OVERLAY, prefix};
use super::{Output, bytes_of, output, pool};
use crate::config::IpamMode;
use crate::index::Index;
use crate::object::DEFAULT_POOL;
use crate::table::RowId;

/// The id of a node's pool row.
#[must_use]
pub fn pool_id(node: &str) -> RowId {
    RowId::new(Scope::Node(node.to_owned()), Table::Pool, DEFAULT_POOL)
}

/// A node's pool row, as soon as it has a CIDR: all its CIDRs, and the reserve, which is of the default pool.
#[must_use]
pub fn pool(index: &Index, name: &str) -> Option<Output> {
    let node = index.node(name)?;
    let ledger = index.ledger(name).filter(|ledger| ledger.cidrs().next().is_some())?;
    let multi_pool = index.config().ipam == IpamMode::MultiPool;
    let reserves = pool::parts(ledger, node.max_pods, multi_pool).into_iter().filter_map(|part| part.reserve);
    let row = tables::Pool {
        name: DEFAULT_POOL.to_owned(),
        cidrs: ledger.cidrs().map(prefix).collect(),
        overlay_addresses: bytes_of(ledger.addresses_of(OVERLAY)),
        reserve: reserves.map(|(first, last)| AddressRange::new(first, last)).collect(),
    };
    Some(output(pool_id(name), &row))
}

/// The id of a namespace row on a node.
#[must_use]
pub fn namespace_id(node: &str, namespace: &Arc<str>) -> RowId {
    RowId::new(Scope::Node(node.to_owned()), Table::Namespace, Arc::clone(namespace))
}

/// What a node needs to know of a namespace of which it has pods.
#[must_use]
pub fn namespace(index: &Index, node: &str, namespace: &Arc<str>) -> Option<Output> {
    let here = index.pods_on(node).any(|pod| pod.pod.name.namespace == *namespace && !pod.pod.host_network);
    let row = tables::Namespace { name: namespace.to_string(), has_policy: index.has_policy(namespace) };
    here.then(|| output(namespace_id(node, namespace), &row))
}
