//! What the operator wants of this node.

pub mod pods;
