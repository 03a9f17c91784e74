//! What operator and node share: the NodeSync protocol, the rows of its tables, their scopes and content hashes.
//!
//! The protocol is described in `proto/nodesync.proto`, the rows in `proto/tables.proto`. Nothing else crosses the wire, and
//! neither side links the other.

pub mod address;
pub mod buckets;
pub mod codec;
pub mod row;
pub mod scope;

/// Messages and service of `nodesync.proto`.
#[allow(clippy::all, missing_docs, missing_debug_implementations, reason = "generated code")]
pub mod nodesync {
    pub use crate::row::Row;

    tonic::include_proto!("axoneme.nodesync.v1");
}

/// Row payloads of `tables.proto`.
#[allow(clippy::all, missing_docs, missing_debug_implementations, reason = "generated code")]
pub mod tables {
    tonic::include_proto!("axoneme.tables.v1");
}

pub use nodesync::Table;
pub use scope::Scope;

/// The protocol version that this build speaks and the oldest one that it still understands.
pub const PROTOCOL: std::ops::RangeInclusive<u32> = 1..=2;

/// The first version with buckets, numbered chunks and versions of inputs.
pub const PROTOCOL_BUCKETS: u32 = 2;

/// Audience of the bound token with which a node joins.
pub const TOKEN_AUDIENCE: &str = "axoneme-operator";

/// The name in the operator's server certificate; nodes dial addresses and verify this.
pub const OPERATOR_SERVER_NAME: &str = "operator.axoneme.internal";

/// A node certificate's URI name: `axoneme://node/<node name>/<Node UID>`.
pub const NODE_URI_PREFIX: &str = "axoneme://node/";

/// TCP port of NodeSync on the operator's host.
pub const NODESYNC_PORT: u16 = 4246;
