//! Which values make sense together.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::identity::{RESERVED_NAMES, USER_RESERVED};

use super::file::{ConfigFile, RoutingMode, UnderlayProtocol};
use super::ipam::IpamMode;

/// A field and what is wrong with it.
type Problem = (&'static str, String);

/// The first value that makes no sense.
pub(super) fn problem(config: &ConfigFile) -> Option<Problem> {
    if !config.ipv4.enabled && !config.ipv6.enabled {
        return Some(("ipv4.enabled", "one of ipv4 and ipv6 must be enabled".into()));
    }
    if config.cluster.id > 255 {
        return Some(("cluster.id", format!("{} is not within 0 to 255", config.cluster.id)));
    }
    if config.cluster.name.is_empty() || config.cluster.name.len() > 32 {
        return Some(("cluster.name", format!("{:?} has not 1 to 32 characters", config.cluster.name)));
    }
    if let Some(problem) = routing_problem(config).or_else(|| addressing_problem(config)) {
        return Some(problem);
    }
    if let Some(problem) = identity_problem(&config.fixed_identity_mapping) {
        return Some(problem);
    }
    if let Some(problem) = emergency_problem(&config.host_firewall.emergency_ports) {
        return Some(problem);
    }
    if config.tunnel_port == 0 {
        return Some(("tunnelPort", "must not be 0".into()));
    }
    if config.mtu != 0 && !(576..=65_535).contains(&config.mtu) {
        return Some(("MTU", format!("{} is neither 0 nor within 576 to 65535", config.mtu)));
    }
    if config.ipv6.enabled && config.mtu != 0 && config.mtu < 1280 {
        return Some(("MTU", format!("{} is less than the 1280 that IPv6 needs", config.mtu)));
    }
    if !(600..=604_800).contains(&config.operator.node_certificate_seconds) {
        let seconds = config.operator.node_certificate_seconds;
        return Some(("operator.nodeCertificateSeconds", format!("{seconds} is not within 600 to 604800")));
    }
    // Everything else about them the operator says of the objects that they become.
    for (name, pool) in &config.ipam.operator.auto_create {
        let field = "ipam.operator.autoCreateCiliumPodIPPools";
        let families = pool.ipv4.iter().chain(&pool.ipv6).flat_map(|family| family.other.keys());
        if let Some(unknown) = pool.other.keys().chain(families).next() {
            return Some((field, format!("{name}: unknown field {unknown:?}")));
        }
        if pool.ipv4.is_none() && pool.ipv6.is_none() {
            return Some((field, format!("{name}: neither ipv4 nor ipv6")));
        }
    }
    if config.ipam.mode != IpamMode::ClusterPool {
        return None;
    }
    let pool = &config.ipam.operator;
    let ipv4 = ("ipam.operator.clusterPoolIPv4PodCIDRList", "ipam.operator.clusterPoolIPv4MaskSize");
    let ipv6 = ("ipam.operator.clusterPoolIPv6PodCIDRList", "ipam.operator.clusterPoolIPv6MaskSize");
    let v4 = config.ipv4.enabled.then(|| pool_problem(ipv4, &pool.ipv4_cidrs, pool.ipv4_mask, false)).flatten();
    v4.or_else(|| config.ipv6.enabled.then(|| pool_problem(ipv6, &pool.ipv6_cidrs, pool.ipv6_mask, true)).flatten())
}

fn identity_problem(names: &BTreeMap<u32, String>) -> Option<Problem> {
    let field = "fixedIdentityMapping";
    for (id, name) in names {
        let (first, last) = (USER_RESERVED.start(), USER_RESERVED.end());
        if !USER_RESERVED.contains(id) {
            return Some((field, format!("{id} is not within {first} to {last}")));
        }
        // It must be possible to write it as a label's value.
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if name.len() > 63 || !name.chars().all(valid) || !end(name.chars().next()) || !end(name.chars().next_back()) {
            return Some((field, format!("{name:?} ({id}) is no value of a label")));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Some((field, format!("{name:?} ({id}) is reserved")));
        }
        if names.range(..id).any(|(_, other)| other == name) {
            return Some((field, format!("{name:?} ({id}) is named twice")));
        }
    }
    None
}

fn emergency_problem(ports: &[u16]) -> Option<Problem> {
    let field = "hostFirewall.emergencyPorts";
    if ports.contains(&0) {
        return Some((field, "0 is no port".into()));
    }
    let twice = ports.iter().enumerate().find(|(i, port)| ports.iter().take(*i).any(|other| other == *port));
    twice.map(|(_, port)| (field, format!("{port} is named twice")))
}

fn routing_problem(config: &ConfigFile) -> Option<Problem> {
    let native = config.routing_mode == RoutingMode::Native;
    if config.auto_direct_node_routes && !native {
        return Some(("autoDirectNodeRoutes", "needs routingMode native: a tunnel has no routes of its own".into()));
    }
    if config.direct_routing_skip_unreachable && !config.auto_direct_node_routes {
        return Some(("directRoutingSkipUnreachable", "has no effect without autoDirectNodeRoutes".into()));
    }
    let (underlay, family) = match config.underlay_protocol {
        UnderlayProtocol::Ipv4 => ("ipv4", config.ipv4),
        UnderlayProtocol::Ipv6 => ("ipv6", config.ipv6),
    };
    if !native && !family.enabled {
        return Some(("underlayProtocol", format!("{underlay} although {underlay}.enabled is false")));
    }
    let v4 = ("ipv4NativeRoutingCIDR", "IPv4", "ipv4", config.ipv4.enabled, config.ipv4_native_routing_cidr);
    let v6 = ("ipv6NativeRoutingCIDR", "IPv6", "ipv6", config.ipv6.enabled, config.ipv6_native_routing_cidr);
    for (field, name, switch, enabled, cidr) in [v4, v6] {
        let Some(cidr) = cidr else { continue };
        if cidr.addr().is_ipv6() != (name == "IPv6") {
            return Some((field, format!("{cidr} is no {name} prefix")));
        }
        if !enabled {
            return Some((field, format!("is set although {switch}.enabled is false")));
        }
    }
    None
}

fn addressing_problem(config: &ConfigFile) -> Option<Problem> {
    let kubernetes = config.ipam.mode == IpamMode::Kubernetes;
    let v4 = ("k8s.requireIPv4PodCIDR", "ipv4", config.ipv4.enabled, config.k8s.require_ipv4_pod_cidr);
    let v6 = ("k8s.requireIPv6PodCIDR", "ipv6", config.ipv6.enabled, config.k8s.require_ipv6_pod_cidr);
    for (field, switch, enabled, required) in [v4, v6] {
        if required && !kubernetes {
            return Some((field, "needs ipam.mode kubernetes: no other mode takes CIDRs from Nodes".into()));
        }
        if required && !enabled {
            return Some((field, format!("is true although {switch}.enabled is false")));
        }
    }
    let masquerades = config.masquerade_ipv4 && config.ipv4.enabled || config.masquerade_ipv6 && config.ipv6.enabled;
    if config.ip_masq_agent.enabled && !masquerades {
        return Some(("ipMasqAgent.enabled", "nothing is masqueraded: see enableIPv4Masquerade".into()));
    }
    if config.ipam.mode == IpamMode::DelegatedPlugin && config.routing_mode != RoutingMode::Native {
        return Some((
            "ipam.mode",
            "delegated-plugin needs routingMode native: the other plugin keeps the routes".into(),
        ));
    }
    None
}

fn pool_problem(
    (list, mask_field): (&'static str, &'static str),
    cidrs: &[IpNet],
    mask: u8,
    v6: bool,
) -> Option<Problem> {
    if cidrs.is_empty() {
        return Some((list, "is empty although the family is enabled".into()));
    }
    // A node's CIDR needs room for its own address, a pod and a reserve.
    let longest = if v6 { 125 } else { 29 };
    for (i, cidr) in cidrs.iter().enumerate() {
        let family = if v6 { "IPv6" } else { "IPv4" };
        if cidr.addr().is_ipv6() != v6 {
            return Some((list, format!("{cidr} is no {family} prefix")));
        }
        if cidr.trunc() != *cidr {
            return Some((list, format!("{cidr} has bits set behind its length, {} is meant", cidr.trunc())));
        }
        if mask < cidr.prefix_len() || mask > longest {
            return Some((mask_field, format!("{mask} is not within {} (of {cidr}) to {longest}", cidr.prefix_len())));
        }
        if let Some(other) = cidrs[..i].iter().find(|other| other.contains(cidr) || cidr.contains(*other)) {
            return Some((list, format!("{cidr} and {other} overlap")));
        }
    }
    None
}
