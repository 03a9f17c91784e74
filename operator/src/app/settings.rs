//! The settings row of nodes, from the configuration.

use std::sync::Arc;

use axoneme_proto::tables::{PolicyMode, RoutingMode as Mode, Settings};
use http::Uri;

use crate::compile::cluster::prefix;
use crate::compile::policy::{ApiServer, Emergency};
use crate::config::{ConfigFile, IpamMode, RoutingMode, UnderlayProtocol};
use crate::engine;
use crate::identity::Reserved;

/// What the engine has to know; the operator runs in `namespace`, and finds the API server at `url`.
#[must_use]
pub(super) fn engine(config: &ConfigFile, namespace: &str, url: &Uri) -> engine::Config {
    let mut reserved = Reserved::fixed(&config.fixed_identity_mapping);
    if config.well_known_identities.enabled {
        reserved.extend(Reserved::well_known(&config.cluster.name, namespace));
    }
    engine::Config {
        ipam: config.ipam.mode,
        masquerade_agent: config.ip_masq_agent.enabled,
        bandwidth: config.bandwidth_manager.enabled,
        identity_grace: config.operator.identity_heartbeat_timeout,
        reserved: reserved.into(),
        pre_allocation: Arc::new(config.ipam.pre_allocation.clone()),
        cidrs_of: config.cidrs_of(),
        host_firewall: config.host_firewall().map(|firewall| Emergency { server: api_server(url), ..firewall }),
        ..engine::Config::new(settings(config))
    }
}

/// Where an API server with this URL is.
fn api_server(url: &Uri) -> Option<ApiServer> {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    let host = url.host()?.trim_matches(['[', ']']);
    Some(host.parse().map_or(ApiServer::Name(port), |address| ApiServer::Address(address, port)))
}

/// What every node has to know.
#[must_use]
fn settings(config: &ConfigFile) -> Settings {
    let pool = &config.ipam.operator;
    // In other modes the nodes' own rows say where pods are.
    let pools = config.ipam.mode == IpamMode::ClusterPool;
    let v4 = pool.ipv4_cidrs.iter().filter(|_| pools && config.ipv4.enabled);
    let v6 = pool.ipv6_cidrs.iter().filter(|_| pools && config.ipv6.enabled);
    let native = config.ipv4_native_routing_cidr.iter().chain(&config.ipv6_native_routing_cidr);
    Settings {
        cluster_name: config.cluster.name.clone(),
        cluster_id: config.cluster.id,
        routing_mode: match config.routing_mode {
            RoutingMode::Tunnel => Mode::Vxlan,
            RoutingMode::Native => Mode::Native,
        }
        .into(),
        tunnel_port: config.tunnel_port.into(),
        pod_cidrs: v4.chain(v6).map(prefix).collect(),
        masquerade_ipv4: config.masquerade_ipv4 && config.ipv4.enabled,
        masquerade_ipv6: config.masquerade_ipv6 && config.ipv6.enabled,
        ipv4: config.ipv4.enabled,
        ipv6: config.ipv6.enabled,
        mtu: config.mtu,
        policy_mode: PolicyMode::from(config.policy_enforcement_mode).into(),
        no_masquerade: native.map(prefix).collect(),
        auto_direct_node_routes: config.auto_direct_node_routes,
        direct_routes_skip_unreachable: config.direct_routing_skip_unreachable,
        tunnel_over_ipv6: config.underlay_protocol == UnderlayProtocol::Ipv6,
        verdict_events: config.bpf.events.policy_verdict.enabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_is_at_an_address_or_at_a_name() {
        let of = |url: &'static str| api_server(&Uri::from_static(url)).unwrap();
        assert_eq!(of("https://192.0.2.10:6443/"), ApiServer::Address([192, 0, 2, 10].into(), 6443));
        assert_eq!(of("https://[2001:db8::1]"), ApiServer::Address("2001:db8::1".parse().unwrap(), 443));
        assert_eq!(of("https://api.example:8443"), ApiServer::Name(8443));
    }
}
