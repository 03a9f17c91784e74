//! What the daemons of Axoneme tell of themselves, and how people get to see it.
//!
//! Node daemon and operator each serve a read-only API on a Unix socket that only root (or the operator's own user) may open:
//! `GET /v1/<subject>` gives JSON. A subcommand of their own binary asks it ([`client`]) and shows the answer ([`show`]); the
//! `axoneme` command runs that subcommand in their pods and puts the answers of all side by side. Nothing secret is ever told.
//!
//! Fields are only added: an older or newer side takes what it knows and defaults for the rest.

pub mod check;
pub mod client;
pub mod explain;
pub mod node;
pub mod operator;
pub mod output;
pub mod server;
pub mod show;
pub mod table;
pub mod verdict;

/// Where a node's daemon listens, below its run directory; the operator's is in `/run/axoneme`, too.
pub const SOCKET: &str = "admin.sock";

/// Where the socket is unless something else is configured.
pub const DEFAULT_SOCKET: &str = "/run/axoneme/admin.sock";
