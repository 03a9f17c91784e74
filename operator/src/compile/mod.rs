//! From the index to rows: a pure function for each output table.

pub mod pool;
