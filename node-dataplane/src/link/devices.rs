//! The node's own devices and routes, as the state half asks for them.
