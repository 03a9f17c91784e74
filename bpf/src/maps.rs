//! Names of the maps, as pinned and as in the object.

pub const CONFIG: &str = "ax_config";
pub const ENDPOINTS: &str = "ax_endpoints";
pub const ADDRESSES: &str = "ax_addresses";
pub const CIDRS: &str = "ax_cidrs";
pub const POLICIES: &str = "ax_policies";
pub const GENERATION: &str = "ax_generation";
pub const POLICY_RULES: &str = "ax_policy_rules";
pub const POLICY_CLASSES: &str = "ax_policy_classes";
pub const SERVICES: &str = "ax_services";
pub const SERVICE_BACKENDS: &str = "ax_service_backends";
pub const AFFINITY: &str = "ax_affinity";
pub const CT_TCP: &str = "ax_ct_tcp";
pub const CT_ANY: &str = "ax_ct_any";
pub const NAT: &str = "ax_nat";
pub const FRAGMENTS: &str = "ax_fragments";
pub const NO_MASQUERADE: &str = "ax_no_masquerade";
pub const UPLINKS: &str = "ax_uplinks";
pub const BANDWIDTH: &str = "ax_bandwidth";
pub const SOCK_REVERSE: &str = "ax_sock_reverse";
pub const METRICS: &str = "ax_metrics";
pub const EVENTS: &str = "ax_events";

/// Every map of the object.
pub const ALL: &[&str] = &[
    CONFIG,
    ENDPOINTS,
    ADDRESSES,
    CIDRS,
    POLICIES,
    GENERATION,
    POLICY_RULES,
    POLICY_CLASSES,
    SERVICES,
    SERVICE_BACKENDS,
    AFFINITY,
    CT_TCP,
    CT_ANY,
    NAT,
    FRAGMENTS,
    NO_MASQUERADE,
    UPLINKS,
    BANDWIDTH,
    SOCK_REVERSE,
    METRICS,
    EVENTS,
];
