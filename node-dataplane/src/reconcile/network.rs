//! The node's own devices, routes and `ax_config`.

use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::inet::{Inet, Port};
use axoneme_proto::{Scope, Table};
use std::net::IpAddr;

use super::ops::{DeviceOps, MapOps, NetworkSpec, NetworkState, Route, Routing};
use super::peers::tunnel_end;
use super::queue::{Failure, Queue};
use crate::desired::{Desired, RowId};

/// Ports that masquerading may use: behind the default range of node ports, as Cilium has it.
const NAT_PORTS: (u16, u16) = (32_768, 65_535);

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
    if overlay_addresses.is_empty() {
        return Err("this node has no overlay address yet: has it a pod CIDR?".into());
    }
    Ok(NetworkSpec {
        routing: settings.routing,
        node_addresses: node.addresses.clone(),
        overlay_addresses,
        pod_cidrs: node.pod_cidrs.clone(),
        mtu: settings.mtu,
    })
}

/// The routes to other nodes' pods.
#[must_use]
pub fn routes(desired: &Desired, routing: Routing) -> Vec<Route> {
    let mut routes = Vec::new();
    for (name, node) in desired.index().nodes().filter(|(name, _)| ***name != *desired.node_name()) {
        for &cidr in &node.pod_cidrs {
            let same = || node.addresses.iter().copied().find(|a| a.is_ipv4() == cidr.addr().is_ipv4());
            match routing {
                Routing::Vxlan { .. } => routes.push(Route { cidr, via: None }),
                Routing::Native => {
                    let via = same().or_else(|| tunnel_end(desired, name));
                    routes.extend(via.map(|via| Route { cidr, via: Some(via) }));
                }
            }
        }
    }
    routes.sort_unstable();
    routes.dedup();
    routes
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
    if settings.as_ref().is_some_and(|settings| settings.masquerade_ipv4) {
        flags |= ConfigFlags::MASQUERADE_IPV4;
    }
    if settings.as_ref().is_some_and(|settings| settings.masquerade_ipv6) {
        flags |= ConfigFlags::MASQUERADE_IPV6;
    }
    let first =
        |wanted: fn(&IpAddr) -> bool| spec.node_addresses.iter().copied().find(wanted).map_or(Inet::ZERO, Inet::from);
    Config {
        flags,
        tunnel_ifindex: state.tunnel_ifindex,
        uplink_ifindex: state.uplink_ifindex,
        uplink_mtu: state.uplink_mtu,
        tunnel_port,
        nat_port_min: NAT_PORTS.0,
        nat_port_max: NAT_PORTS.1,
        node_ipv4: first(IpAddr::is_ipv4),
        node_ipv6: first(IpAddr::is_ipv6),
        ..Config::default()
    }
}

/// The reconciler of devices and routes.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Network {
    ops: Box<dyn DeviceOps>,
    config: Box<dyn MapOps<u32, Config>>,
    /// One key: all of it.
    pub queue: Queue<()>,
    state: Option<(NetworkSpec, NetworkState)>,
    waiting: Option<String>,
}

impl Network {
    /// Over these devices.
    #[must_use]
    pub fn new(ops: Box<dyn DeviceOps>, config: Box<dyn MapOps<u32, Config>>) -> Self {
        Self { ops, config, queue: Queue::default(), state: None, waiting: None }
    }

    /// What was set up last, and what came out.
    #[must_use]
    pub fn state(&self) -> Option<&(NetworkSpec, NetworkState)> {
        self.state.as_ref()
    }

    /// What is not known yet, while nothing can be set up.
    #[must_use]
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// Makes devices, `ax_config` and routes as desired.
    ///
    /// # Errors
    /// What the kernel refused; the rest is done.
    pub async fn reconcile(&mut self, desired: &Desired) -> Result<(), Failure> {
        let row = |table, key| RowId::new(Scope::Cluster, table, key);
        let spec = match spec(desired) {
            Ok(spec) => spec,
            Err(missing) => {
                // Not a failure of any row: what is missing will come.
                self.waiting = Some(missing);
                return Ok(());
            }
        };
        self.waiting = None;
        let own = || row(Table::Node, desired.node_name());
        let state = self.ops.apply(&spec).await.map_err(|err| Failure::from(err).of(own()))?;
        let config = config(desired, &spec, &state);
        if self.config.get(&0)? != Some(config) {
            self.config.update(&0, &config).map_err(|err| Failure::from(err).of(own()))?;
        }
        let routes = routes(desired, spec.routing);
        self.state = Some((spec, state));
        let mut failed = self.ops.routes(&routes).await.into_iter();
        match failed.next() {
            None => Ok(()),
            Some((route, err)) => {
                let failure = Failure::from(err);
                Err(match desired.index().node_cidr(route.cidr) {
                    Some(node) => failure.of(row(Table::Node, node)),
                    None => failure,
                })
            }
        }
    }
}
