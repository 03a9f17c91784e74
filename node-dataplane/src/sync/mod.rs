//! NodeSync, the node side.
