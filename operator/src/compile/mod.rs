//! From the index to rows: a pure function for each output table.
//!
//! Each takes the index and the key of what it makes, and gives the row or nothing. Equal indexes give equal bytes: everything
//! is sorted, and nothing depends on time or on what was made before.

pub mod cluster;
pub mod endpoint;
pub mod node;
pub mod policy;
pub mod pool;
pub mod scopes;
pub mod service;

use std::net::IpAddr;

use axoneme_proto::address::to_bytes;
use prost::Message;

use crate::table::{EncodedRow, RowId};

/// A row with its id.
pub type Output = (RowId, EncodedRow);

fn output(id: RowId, message: &impl Message) -> Output {
    let row = EncodedRow::new(&id, message, 0);
    (id, row)
}

fn bytes_of(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Vec<u8>> {
    addresses.into_iter().map(to_bytes).collect()
}
