//! The scope `cluster`: settings and nodes.

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;
use axoneme_proto::tables::Prefix;
use ipnet::IpNet;

use super::{Output, bytes_of, output};
use crate::index::Index;
use crate::table::RowId;

/// `spec.addresses[].type` of a node's own address in the overlay.
pub const OVERLAY: &str = "CiliumInternalIP";

/// The settings row.
#[must_use]
pub fn settings(settings: &tables::Settings) -> Output {
    output(RowId::new(Scope::Cluster, Table::Settings, ""), settings)
}

/// The id of a node's row.
#[must_use]
pub fn node_id(name: &str) -> RowId {
    RowId::new(Scope::Cluster, Table::Node, name)
}

/// A node's row: its Node joined with its ledger.
#[must_use]
pub fn node(index: &Index, name: &str) -> Option<Output> {
    let node = index.node(name)?;
    let ledger = index.ledger(name);
    let row = tables::Node {
        name: name.to_owned(),
        uid: node.uid.to_string(),
        addresses: bytes_of(node.internal_ips.iter().copied()),
        overlay_addresses: bytes_of(ledger.iter().flat_map(|ledger| ledger.addresses_of(OVERLAY))),
        pod_cidrs: ledger.iter().flat_map(|ledger| &ledger.pod_cidrs).map(prefix).collect(),
        external_addresses: bytes_of(node.external_ips.iter().copied()),
    };
    Some(output(node_id(name), &row))
}

/// A CIDR as rows carry it.
#[must_use]
pub fn prefix(net: &IpNet) -> Prefix {
    Prefix::new(net.network(), net.prefix_len())
}
