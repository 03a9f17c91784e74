//! Rows: their construction, content hash and encoding.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes as blob, message, skip_field, uint64};
use prost::{DecodeError, Message};
use xxhash_rust::xxh3::Xxh3;

use crate::nodesync::{RowKey, Table};
use crate::scope::{InvalidScope, Scope};

/// The content hash of a row: xxh3 over table, key, payload and required features. Revisions do not enter, so that two replicas
/// agree.
#[must_use]
pub fn content_hash(table: Table, key: &str, payload: &[u8], features: u64) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(table as i32).to_le_bytes());
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key.as_bytes());
    hash.update(payload);
    if features != 0 {
        hash.update(&features.to_le_bytes());
    }
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

/// The message `Row`. Written by hand for one reason: an operator encodes a row once and sends it to many nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Which row.
    pub key: Option<RowKey>,
    /// Its revision in the journal of who sends it.
    pub revision: u64,
    /// See [`content_hash`].
    pub hash: u64,
    /// The table's message in `tables.proto`.
    pub payload: Bytes,
    /// Required `Feature` bits.
    pub features: u64,
    /// All of it but the revision, in the protocol's encoding: then the other fields are empty, and this is what is sent. A row
    /// that was received never has it.
    pub encoded: Bytes,
}

const KEY: u32 = 1;
const REVISION: u32 = 2;
const HASH: u32 = 3;
const PAYLOAD: u32 = 4;
const FEATURES: u32 = 5;

impl Row {
    /// What is encoded of it once, for [`Row::encoded`]; ends with the payload.
    #[must_use]
    pub fn encode_once(self) -> Bytes {
        Self { revision: 0, ..self }.encode_to_vec().into()
    }

    fn number(tag: u32, value: u64, buf: &mut impl BufMut) {
        if value != 0 {
            uint64::encode(tag, &value, buf);
        }
    }

    fn number_len(tag: u32, value: u64) -> usize {
        if value == 0 { 0 } else { uint64::encoded_len(tag, &value) }
    }
}

impl Message for Row {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        Self::number(REVISION, self.revision, buf);
        if !self.encoded.is_empty() {
            return buf.put_slice(&self.encoded);
        }
        if let Some(key) = &self.key {
            message::encode(KEY, key, buf);
        }
        Self::number(HASH, self.hash, buf);
        Self::number(FEATURES, self.features, buf);
        if !self.payload.is_empty() {
            blob::encode(PAYLOAD, &self.payload, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            KEY => message::merge(wire_type, self.key.get_or_insert_default(), buf, ctx),
            REVISION => uint64::merge(wire_type, &mut self.revision, buf, ctx),
            HASH => uint64::merge(wire_type, &mut self.hash, buf, ctx),
            PAYLOAD => blob::merge(wire_type, &mut self.payload, buf, ctx),
            FEATURES => uint64::merge(wire_type, &mut self.features, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let revision = Self::number_len(REVISION, self.revision);
        if !self.encoded.is_empty() {
            return revision + self.encoded.len();
        }
        let key = self.key.as_ref().map_or(0, |key| message::encoded_len(KEY, key));
        let payload = if self.payload.is_empty() { 0 } else { blob::encoded_len(PAYLOAD, &self.payload) };
        revision + key + Self::number_len(HASH, self.hash) + payload + Self::number_len(FEATURES, self.features)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Row {
    /// A row without a revision yet; the journal gives one when it is published. `features` are required `Feature` bits.
    #[must_use]
    pub fn new(scope: &Scope, table: Table, key: impl Into<String>, payload: &impl Message, features: u64) -> Self {
        let key = RowKey::new(scope, table, key);
        let payload = Bytes::from(payload.encode_to_vec());
        let hash = content_hash(table, &key.key, &payload, features);
        Self { key: Some(key), hash, payload, features, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Namespace;

    #[test]
    fn a_row_that_was_encoded_once_arrives_like_any_other() {
        let open = Namespace { name: "x".into(), has_policy: true };
        for (features, revision) in [(0, 0), (1, 300)] {
            let row = Row { revision, ..Row::new(&Scope::Node("a".into()), Table::Namespace, "x", &open, features) };
            let once = Row { revision, encoded: row.clone().encode_once(), ..Row::default() };
            for sent in [&row, &once] {
                let bytes = sent.encode_to_vec();
                assert_eq!(bytes.len(), sent.encoded_len());
                assert_eq!(Row::decode(&*bytes), Ok(row.clone()));
            }
            assert!(row.clone().encode_once().ends_with(&row.payload));
        }
    }

    #[test]
    fn hash_covers_table_key_payload_and_features_but_not_revision() {
        let scope = Scope::Node("a".into());
        let open = Namespace { name: "x".into(), has_policy: false };
        let mut row = Row::new(&scope, Table::Namespace, "x", &open, 0);
        let hash = row.hash;
        row.revision = 7;
        assert_eq!(content_hash(Table::Namespace, "x", &row.payload, 0), hash);
        assert_ne!(content_hash(Table::Pool, "x", &row.payload, 0), hash);
        assert_ne!(content_hash(Table::Namespace, "y", &row.payload, 0), hash);
        assert_ne!(content_hash(Table::Namespace, "x", &row.payload, 1), hash);
        let closed = Namespace { has_policy: true, ..open };
        assert_ne!(Row::new(&scope, Table::Namespace, "x", &closed, 0).hash, hash);
    }
}
