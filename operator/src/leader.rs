//! Who leads, and what a leader does before anything else.
//!
//! One Lease decides. Kubernetes does not fence: a process that lost the Lease while it hung may still send a request, so every
//! write of a leader is guarded by what it writes to (see `identity` and `ipam`), and a process that cannot renew in time ends.

mod authority;
mod definitions;
mod directory;
mod election;
mod lease;
mod rival;

pub use authority::{CA_INTERVAL, CA_SECRET, CaError, ensure_authority, follow_authority};
pub use definitions::{DefinitionError, apply_definitions};
pub use directory::{Directory, DirectoryError, OPERATORS_CONFIG_MAP, keep_directory};
pub use election::{Candidate, Held, LEASE, Lost, Tenure};
pub use rival::{RIVAL_LEASE, Rival, rival};
