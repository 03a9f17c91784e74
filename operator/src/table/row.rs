//! Rows as the operator keeps them: encoded once, shared by all sessions.

use std::fmt;
use std::sync::Arc;

use axoneme_proto::nodesync::{Row, RowKey, Table};
use axoneme_proto::row::content_hash;
use axoneme_proto::scope::Scope;
use bytes::Bytes;
use prost::Message;

/// Which row. Ordered by scope first, so that a scope is a range of a sorted table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// Its scope.
    pub scope: Scope,
    /// Its table.
    pub table: Table,
    /// Its key there.
    pub key: Arc<str>,
}

impl RowId {
    /// An id from its parts.
    pub fn new(scope: Scope, table: Table, key: impl Into<Arc<str>>) -> Self {
        Self { scope, table, key: key.into() }
    }

    /// As the protocol writes it.
    #[must_use]
    pub fn to_key(&self) -> RowKey {
        RowKey::new(&self.scope, self.table, &*self.key)
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.scope, self.table.as_str_name(), self.key)
    }
}

/// A row's content, encoded as it is sent to every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRow {
    /// Content hash of the protocol.
    pub hash: u64,
    /// Required feature bits.
    pub features: u64,
    encoded: Bytes,
    /// Of the table's message, which ends `encoded`.
    payload: u32,
}

impl EncodedRow {
    /// Encodes `message` as the content of `id`.
    #[must_use]
    pub fn new(id: &RowId, message: &impl Message, features: u64) -> Self {
        Self::from_payload(id, Bytes::from(message.encode_to_vec()), features)
    }

    /// A row whose message is encoded already.
    #[must_use]
    pub fn from_payload(id: &RowId, payload: Bytes, features: u64) -> Self {
        let hash = content_hash(id.table, &id.key, &payload, features);
        // Nobody makes a message of 4 GiB.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let row = Row { key: Some(id.to_key()), hash, payload, features, ..Row::default() };
        Self { hash, features, encoded: row.encode_once(), payload: length }
    }

    /// The table's message.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.encoded.slice(self.encoded.len() - self.payload as usize..)
    }

    /// The row as it is sent, but for its revision; its bytes are shared.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }
}
