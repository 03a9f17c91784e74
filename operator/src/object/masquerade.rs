//! What the ConfigMap `ip-masq-agent` says.

use std::sync::Arc;

use ipnet::IpNet;

use super::Name;

/// Destinations outside the cluster that see pods' own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeAgent {
    /// The ConfigMap.
    pub name: Name,
    /// `nonMasqueradeCIDRs`; none: the usual ones.
    pub cidrs: Box<[IpNet]>,
    /// `masqLinkLocal`: link-local IPv4 destinations see the node's address.
    pub link_local: bool,
    /// `masqLinkLocalIPv6`.
    pub link_local_ipv6: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}
