//! Addresses: demands become entries of `CiliumNode` objects.
//!
//! A node's CIDR is cut out of the cluster's pools; all CiliumNodes together are the one ledger of CIDRs,
//! which a new leader reads consistently before its first write. A pod's address is an entry in its node's ledger, written
//! before anyone uses it: one batched write in flight per node, guarded by resourceVersion, planned anew from the fresh object
//! after a conflict. Nothing here is used by the compiler: it sees the echo of the watch.

mod cidrs;
mod create;
mod ledgers;
mod metrics;
mod orphans;
mod plan;
mod rotation;
mod run;
mod write;

#[cfg(test)]
mod tests;

pub use cidrs::{Cidrs, Growth};
pub use create::{CreatePoolError, create_pools};
pub use ledgers::{KubernetesLedgers, Ledgers};
pub use metrics::IpamMetrics;
pub use orphans::Orphans;
pub use plan::{Plan, Shortage, empty, plan};
pub use rotation::Rotation;
pub use run::Allocator;
