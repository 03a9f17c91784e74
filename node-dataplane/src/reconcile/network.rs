//! The node's own devices, routes, `ax_config`, `ax_no_masquerade` and `ax_uplinks`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use axoneme_bpf::address::CidrKey;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::{Inet, Port};
use axoneme_bpf::nat::Exclusion;
use axoneme_bpf::uplink::Uplink;
use axoneme_proto::nodesync::FailureCode;
use axoneme_proto::{Scope, Table};
use ipnet::IpNet;

use super::ops::{
    DeviceOps, MapError, MapKey, MapOps, MapValue, NetworkSpec, NetworkState, NextHop, Route, Routing, neighbour,
};
use super::peers::{address_of_family, tunnel_end};
use super::queue::{Failure, Queue};
use crate::desired::{Desired, RowId};

/// Ports that masquerading may use: behind the default range of node ports, as Cilium has it.
const NAT_PORTS: (u16, u16) = (32_768, 65_535);
/// Beyond so many neighbours none is kept resolved: each costs a question every half minute, and one that is down a shout every
/// few seconds. The kernel then resolves those that are talked to.
const KEPT_NEIGHBOURS: usize = 512;

/// What the devices shall be like; the error says what is not known yet.
///
/// # Errors
/// When settings, the node's row or its overlay address have not come.
pub fn spec(desired: &Desired) -> Result<NetworkSpec, String> {
    let settings = desired.settings().ok_or("the cluster's settings have not come yet")?;
    let node = desired.own_node().ok_or("this node's row has not come yet: has it a CiliumNode?")?;
    let mut overlay_addresses = node.overlay_addresses.clone();
    overlay_addresses.extend(desired.pools().flat_map(|pool| pool.overlay_addresses));
    overlay_addresses.sort_unstable();
    overlay_addresses.dedup();
    let tunnelled = settings.routing != Routing::Native;
    if overlay_addresses.is_empty() && tunnelled {
        return Err("this node has no overlay address yet: has it a pod CIDR?".into());
    }
    Ok(NetworkSpec {
        routing: settings.routing,
        node_addresses: node.addresses.clone(),
        tunnel_end: tunnel_end(desired, desired.node_name()).filter(|_| tunnelled),
        overlay_addresses,
        pod_cidrs: node.pod_cidrs.clone(),
        mtu: settings.mtu,
    })
}

/// The routes to other nodes' pods, and what has none, by node.
#[must_use]
pub fn routes(desired: &Desired, state: &NetworkState) -> (Vec<Route>, BTreeMap<String, String>) {
    let (mut routes, mut unreachable) = (BTreeSet::new(), BTreeMap::new());
    let Some(settings) = desired.settings() else { return (Vec::new(), unreachable) };
    for (name, node) in desired.index().nodes().filter(|(name, _)| ***name != *desired.node_name()) {
        for &cidr in &node.pod_cidrs {
            if settings.routing != Routing::Native {
                routes.insert(Route { cidr, via: None });
                if tunnel_end(desired, name).is_none() {
                    let message = format!("no tunnel to {cidr}: node {name} has no address of the tunnel's family");
                    unreachable.insert(name.to_string(), message);
                }
                continue;
            }
            // The underlay's own routes lead there.
            if !settings.direct_routes {
                continue;
            }
            let address = address_of_family(&node.addresses, cidr.addr().is_ipv4());
            let next_hop = address.and_then(|address| neighbour(&state.on_link, address));
            match (next_hop, address) {
                (Some(via), _) => {
                    routes.insert(Route { cidr, via: Some(via) });
                }
                (None, _) if settings.skip_unreachable => {}
                (None, Some(address)) => {
                    let message = format!(
                        "no direct route to {cidr}: {address} of node {name} is in no subnet of this node's uplinks; \
                         set directRoutingSkipUnreachable if the underlay routes there"
                    );
                    unreachable.insert(name.to_string(), message);
                }
                (None, None) => {
                    let message = format!("no direct route to {cidr}: node {name} has no address of its family");
                    unreachable.insert(name.to_string(), message);
                }
            }
        }
    }
    (routes.into_iter().collect(), unreachable)
}

/// Neighbours that packets for other nodes and the world are given to.
#[must_use]
pub fn next_hops(desired: &Desired, state: &NetworkState) -> Vec<NextHop> {
    let tunnelled = desired.settings().is_some_and(|settings| settings.routing != Routing::Native);
    let mut next_hops: BTreeSet<NextHop> = state.gateways.iter().copied().collect();
    for (name, node) in desired.index().nodes().filter(|(name, _)| ***name != *desired.node_name()) {
        let ends = if tunnelled { tunnel_end(desired, name).into_iter().collect() } else { node.addresses.clone() };
        next_hops.extend(ends.into_iter().filter_map(|address| neighbour(&state.on_link, address)));
    }
    if next_hops.len() > KEPT_NEIGHBOURS {
        next_hops = state.gateways.iter().copied().collect();
    }
    next_hops.into_iter().collect()
}

/// What programs know of the node.
#[must_use]
pub fn config(desired: &Desired, spec: &NetworkSpec, state: &NetworkState) -> Config {
    let settings = desired.settings();
    let mut flags = ConfigFlags::default();
    let mut tunnel_port = Port::default();
    match spec.routing {
        Routing::Vxlan { port } => tunnel_port = Port::new(port),
        Routing::Native => flags |= ConfigFlags::NATIVE_ROUTING,
    }
    if settings.is_some_and(|settings| settings.masquerade_ipv4) {
        flags |= ConfigFlags::MASQUERADE_IPV4;
    }
    if settings.is_some_and(|settings| settings.masquerade_ipv6) {
        flags |= ConfigFlags::MASQUERADE_IPV6;
    }
    if settings.is_some_and(|settings| !settings.no_masquerade.is_empty()) {
        flags |= ConfigFlags::EXCLUSIONS;
    }
    if settings.is_some_and(|settings| settings.verdict_events) {
        flags |= ConfigFlags::VERDICTS;
    }
    if !uplinks(spec, state).is_empty() {
        flags |= ConfigFlags::UPLINKS;
    }
    Config {
        flags,
        tunnel_ifindex: state.tunnel_ifindex,
        uplink_ifindex: state.uplink_ifindex,
        uplink_mtu: state.uplink_mtu,
        pod_mtu: state.pod_mtu,
        tunnel_port,
        nat_port_min: NAT_PORTS.0,
        nat_port_max: NAT_PORTS.1,
        node_ipv4: node_address(spec, true),
        node_ipv6: node_address(spec, false),
        ..Config::default()
    }
}

fn node_address(spec: &NetworkSpec, ipv4: bool) -> Inet {
    address_of_family(&spec.node_addresses, ipv4).map_or(Inet::ZERO, Inet::from)
}

/// What programs know of uplinks: those by which masqueraded packets leave with another address than the node's.
#[must_use]
pub fn uplinks(spec: &NetworkSpec, state: &NetworkState) -> Vec<(u32, Uplink)> {
    let own = |addresses: &[IpAddr], ipv4| {
        let own = address_of_family(addresses, ipv4).map_or(Inet::ZERO, Inet::from);
        if own == node_address(spec, ipv4) { Inet::ZERO } else { own }
    };
    let row =
        |addresses: &[IpAddr]| Uplink { ipv4: own(addresses, true), ipv6: own(addresses, false), ..Uplink::default() };
    let rows = state.uplinks.iter().map(|uplink| (uplink.device, row(&uplink.addresses)));
    rows.filter(|(_, row)| *row != Uplink::default()).collect()
}

/// The reconciler of devices and routes.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Network {
    ops: Box<dyn DeviceOps>,
    config: Box<dyn MapOps<u32, Config>>,
    exclusions: Box<dyn MapOps<CidrKey, Exclusion>>,
    uplinks: Box<dyn MapOps<u32, Uplink>>,
    /// One key: all of it.
    pub queue: Queue<()>,
    state: Option<(NetworkSpec, NetworkState)>,
    waiting: Option<String>,
    /// What failed by row, when more than the network as a whole is to be said.
    rows: Vec<Failure>,
}

impl Network {
    /// Over these devices and maps.
    #[must_use]
    pub fn new(
        ops: Box<dyn DeviceOps>,
        config: Box<dyn MapOps<u32, Config>>,
        exclusions: Box<dyn MapOps<CidrKey, Exclusion>>,
        uplinks: Box<dyn MapOps<u32, Uplink>>,
    ) -> Self {
        Self { ops, config, exclusions, uplinks, queue: Queue::default(), state: None, waiting: None, rows: Vec::new() }
    }

    /// What was set up last, and what came out.
    #[must_use]
    pub fn state(&self) -> Option<&(NetworkSpec, NetworkState)> {
        self.state.as_ref()
    }

    /// Whether pods can be attached.
    #[must_use]
    pub fn works(&self) -> bool {
        self.state.as_ref().is_some_and(|(_, state)| state.refused.is_empty())
    }

    /// Whether it is set up and cannot work.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state.is_some() && !self.works()
    }

    /// What is wrong beside failures, for people.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let state = self.state.iter().flat_map(|(_, state)| state.refused.iter().chain(&state.warnings));
        self.waiting.iter().chain(state).map(String::as_str)
    }

    /// What is not as desired, and why.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        let whole = self.queue.failures().map(|(_, failure)| failure);
        self.rows.iter().chain(whole.filter(|whole| !self.rows.contains(whole)))
    }

    /// What is not known yet, while nothing can be set up.
    #[must_use]
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// Makes devices, `ax_config` and the maps that its flags are about, routes and neighbours as desired.
    ///
    /// # Errors
    /// What the kernel refused first; the rest is done.
    pub async fn reconcile(&mut self, desired: &Desired) -> Result<(), Failure> {
        self.rows.clear();
        let spec = match spec(desired) {
            Ok(spec) => spec,
            Err(missing) => {
                // Not a failure of any row: what is missing will come.
                self.waiting = Some(missing);
                return Ok(());
            }
        };
        self.waiting = None;
        let own = || RowId::new(Scope::Cluster, Table::Node, desired.node_name());
        let state = self.ops.apply(&spec).await.map_err(|err| Failure::from(err).of(own()))?;
        self.configure(desired, &spec, &state)?;

        let (routes, unreachable) = routes(desired, &state);
        let of_node = |failure: Failure, node: &str| failure.of(RowId::new(Scope::Cluster, Table::Node, node));
        self.rows.extend(unreachable.into_iter().map(|(node, message)| {
            let failure = Failure { code: FailureCode::Kernel, errno: libc::EHOSTUNREACH, message, row: None };
            of_node(failure, &node)
        }));
        for (route, err) in self.ops.routes(&routes).await {
            let failure = Failure::from(err);
            self.rows.push(match desired.index().node_cidr(route.cidr) {
                Some(node) => of_node(failure, node),
                None => failure,
            });
        }
        let neighbours = self.ops.neighbours(&next_hops(desired, &state)).await;
        self.rows.extend(neighbours.err().map(|err| Failure::from(err).of(own())));
        self.state = Some((spec, state));
        self.rows.first().cloned().map_or(Ok(()), Err)
    }

    /// Programs look into `ax_no_masquerade` and `ax_uplinks` while their flags are set, so entries come before and go after.
    fn configure(&mut self, desired: &Desired, spec: &NetworkSpec, state: &NetworkState) -> Result<(), Failure> {
        let of_settings = |err: MapError| Failure::from(err).of(RowId::new(Scope::Cluster, Table::Settings, ""));
        let of_node =
            |err: MapError| Failure::from(err).of(RowId::new(Scope::Cluster, Table::Node, desired.node_name()));
        let excluded = desired.settings().into_iter().flat_map(|settings| &settings.no_masquerade);
        let exclusion = |net: &IpNet| (CidrKey::new(net.addr(), net.prefix_len()), Exclusion::default());
        let stale_exclusions =
            fill(&mut *self.exclusions, &excluded.map(exclusion).collect::<Vec<_>>()).map_err(of_settings)?;
        let stale_uplinks = fill(&mut *self.uplinks, &uplinks(spec, state)).map_err(of_node)?;
        let config = config(desired, spec, state);
        if self.config.get(&0)? != Some(config) {
            self.config.update(&0, &config).map_err(of_node)?;
        }
        stale_exclusions.iter().try_for_each(|key| self.exclusions.delete(key)).map_err(of_settings)?;
        stale_uplinks.iter().try_for_each(|key| self.uplinks.delete(key)).map_err(of_node)
    }
}

/// Writes the entries that are missing or different, and returns the keys of those that are left over.
fn fill<K: MapKey, V: MapValue>(map: &mut dyn MapOps<K, V>, wanted: &[(K, V)]) -> Result<Vec<K>, MapError> {
    let mut present = Vec::new();
    map.dump(&mut |key, value| present.push((key, value)))?;
    for (key, value) in wanted.iter().filter(|entry| !present.contains(entry)) {
        map.update(key, value)?;
    }
    let left_over = present.into_iter().map(|(key, _)| key);
    Ok(left_over.filter(|key| !wanted.iter().any(|(wanted, _)| wanted == key)).collect())
}
