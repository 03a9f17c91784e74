//! Tables with revisions: what the journal is made of.

mod log;
mod row;

pub use log::{Change, Log};
pub use row::{EncodedRow, RowId};
