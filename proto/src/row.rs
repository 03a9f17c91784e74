//! Rows: their construction and content hash.

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use crate::nodesync::{Row, RowKey, Table};
use crate::scope::{InvalidScope, Scope};

/// The content hash of a row: xxh3 over table, key and payload. Revisions do not enter, so that two replicas agree.
#[must_use]
pub fn content_hash(table: Table, key: &str, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(table as i32).to_le_bytes());
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key.as_bytes());
    hash.update(payload);
    hash.digest()
}

impl RowKey {
    /// The key of a row in `scope`.
    #[must_use]
    pub fn new(scope: &Scope, table: Table, key: impl Into<String>) -> Self {
        Self { scope: scope.to_string(), table: table.into(), key: key.into() }
    }

    /// The scope, parsed.
    ///
    /// # Errors
    /// When the text is not a scope.
    pub fn parsed_scope(&self) -> Result<Scope, InvalidScope> {
        self.scope.parse()
    }
}

impl Row {
    /// A row without a revision yet; the journal gives one when it is published. `features` are required `Feature` bits.
    #[must_use]
    pub fn new(scope: &Scope, table: Table, key: impl Into<String>, payload: &impl Message, features: u64) -> Self {
        let key = RowKey::new(scope, table, key);
        let payload = Bytes::from(payload.encode_to_vec());
        let hash = content_hash(table, &key.key, &payload);
        Self { key: Some(key), revision: 0, hash, payload, features }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Namespace;

    #[test]
    fn hash_covers_table_key_and_payload_but_not_revision() {
        let scope = Scope::Node("a".into());
        let open = Namespace { name: "x".into(), has_policy: false };
        let mut row = Row::new(&scope, Table::Namespace, "x", &open, 0);
        let hash = row.hash;
        row.revision = 7;
        assert_eq!(content_hash(Table::Namespace, "x", &row.payload), hash);
        assert_ne!(content_hash(Table::Pool, "x", &row.payload), hash);
        assert_ne!(content_hash(Table::Namespace, "y", &row.payload), hash);
        let closed = Namespace { has_policy: true, ..open };
        assert_ne!(Row::new(&scope, Table::Namespace, "x", &closed, 0).hash, hash);
    }
}
