//! The settings row of nodes, from the configuration.

use axoneme_proto::tables::{PolicyMode, Prefix, RoutingMode as Mode, Settings};

use crate::config::{ConfigFile, PolicyEnforcementMode, RoutingMode};

/// What every node has to know.
#[must_use]
pub(super) fn settings(config: &ConfigFile) -> Settings {
    let pool = &config.ipam.operator;
    let v4 = pool.ipv4_cidrs.iter().filter(|_| config.ipv4.enabled);
    let v6 = pool.ipv6_cidrs.iter().filter(|_| config.ipv6.enabled);
    Settings {
        cluster_name: config.cluster.name.clone(),
        cluster_id: config.cluster.id,
        routing_mode: match config.routing_mode {
            RoutingMode::Tunnel => Mode::Vxlan,
            RoutingMode::Native => Mode::Native,
        }
        .into(),
        tunnel_port: config.tunnel_port.into(),
        pod_cidrs: v4.chain(v6).map(|cidr| Prefix::new(cidr.network(), cidr.prefix_len())).collect(),
        masquerade_ipv4: config.masquerade_ipv4 && config.ipv4.enabled,
        masquerade_ipv6: config.masquerade_ipv6 && config.ipv6.enabled,
        ipv4: config.ipv4.enabled,
        ipv6: config.ipv6.enabled,
        mtu: config.mtu,
        policy_mode: match config.policy_enforcement_mode {
            PolicyEnforcementMode::Default => PolicyMode::Default,
            PolicyEnforcementMode::Always => PolicyMode::Always,
            PolicyEnforcementMode::Never => PolicyMode::Never,
        }
        .into(),
        ..Settings::default()
    }
}
