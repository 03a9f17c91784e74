//! CiliumCIDRGroup.

use std::sync::Arc;

use ipnet::IpNet;

use super::Labels;

/// Prefixes that policies refer to by the group's name or labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrGroup {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.externalCIDRs`, without host bits.
    pub cidrs: Box<[IpNet]>,
}
