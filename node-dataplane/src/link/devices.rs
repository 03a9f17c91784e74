//! The node's own devices and routes, as the state half asks for them.

use std::net::IpAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::IpNet;

use super::device::Device;
use super::route::{Owner, RouteEntry};
use super::sysctl::Families;
use super::uplink::{Host, Patterns};
use super::{LinkError, Links, sysctl, vxlan};
use crate::nftables::untracked;
use crate::programs::Paths;
use crate::programs::attach::{Attacher, OVERLAY, UPLINK};
use crate::reconcile::ops::{DeviceError, DeviceOps, NetworkSpec, NetworkState, NextHop, Route, Routing};

/// The node's own devices: uplinks, overlay, and the routes to other nodes' pods.
#[derive(Debug)]
pub struct Devices {
    links: Links,
    attacher: Attacher,
    patterns: Patterns,
    /// What came out of the last `apply`; routes need it.
    applied: Option<Applied>,
    /// What was said last of what is not as it should be.
    said: Vec<String>,
}

#[derive(Debug)]
struct Applied {
    overlay: Option<Device>,
    overlay_addresses: Vec<IpAddr>,
    pod_cidrs: Vec<IpNet>,
}

impl Devices {
    /// For the namespace in which `links` was connected, with the programs that are pinned below `paths`. `patterns` name
    /// uplinks beside those that hold the node's addresses.
    ///
    /// # Errors
    /// When no programs are pinned there.
    pub fn new(links: Links, paths: Paths, patterns: Patterns) -> std::io::Result<Self> {
        let attacher = Attacher::new(paths, links.clone())?;
        Ok(Self { links, attacher, patterns, applied: None, said: Vec::new() })
    }

    async fn apply_spec(&mut self, spec: &NetworkSpec) -> Result<NetworkState, LinkError> {
        let host = self.links.host(&spec.node_addresses, &self.patterns).await?;
        let uplink = host.uplinks.first().cloned().ok_or(LinkError::NoDefaultRoute)?;
        let families = families(spec);
        let names: Vec<&str> = host.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        let mut refused = sysctl::prepare_node(families, &names);
        refused.extend(names.iter().flat_map(|name| sysctl::prepare_uplink(name, families)));

        let pod_mtu = match spec.mtu {
            0 => pod_mtu(spec, &host, &uplink),
            given => given,
        };
        let overlay = match spec.routing {
            Routing::Vxlan { port } => {
                let overlay = self.links.ensure_overlay(port, pod_mtu).await?;
                refused.extend(sysctl::prepare_overlay(&overlay.name, families).err());
                self.attacher.attach(&overlay, &OVERLAY).await?;
                // Last: before its programs run, nothing may be sent through it.
                self.links.sync_addresses(overlay.index, &spec.overlay_addresses).await?;
                Some(overlay)
            }
            Routing::Native => {
                self.links.remove_overlay().await?;
                None
            }
        };
        for uplink in &host.uplinks {
            self.attacher.attach(uplink, &UPLINK).await?;
        }
        let tracked = match (spec.routing, spec.tunnel_end) {
            (Routing::Vxlan { port }, Some(end)) => untracked::ensure(end, port),
            _ => untracked::remove(),
        };
        let keep: Vec<u32> = host.uplinks.iter().chain(&overlay).map(|device| device.index).collect();
        self.attacher.detach_others(&keep).await?;
        let present = |address: &&IpAddr| host.addresses.iter().any(|(have, _)| have == *address);
        self.links.set_sources(spec.node_addresses.iter().filter(present).copied().collect());

        let mut host_addresses: Vec<IpAddr> = host.addresses.iter().map(|(address, _)| *address).collect();
        host_addresses.retain(|address| !spec.overlay_addresses.contains(address));
        host_addresses.dedup();
        let state = NetworkState {
            tunnel_ifindex: overlay.as_ref().map_or(0, |device| device.index),
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            pod_mtu,
            host_addresses,
            uplinks: host.sources,
            on_link: host.on_link,
            gateways: host.gateways,
            refused: refused.into_iter().map(|error| describe(&error)).collect(),
            warnings: host.unfit.iter().map(unfit).chain(tracked.err().map(still_tracked)).collect(),
        };
        self.say(&state);
        let (overlay_addresses, pod_cidrs) = (spec.overlay_addresses.clone(), spec.pod_cidrs.clone());
        self.applied = Some(Applied { overlay, overlay_addresses, pod_cidrs });
        Ok(state)
    }

    /// Once, as long as it stays the same.
    fn say(&mut self, state: &NetworkState) {
        let now: Vec<String> = state.refused.iter().chain(&state.warnings).cloned().collect();
        if now == self.said {
            return;
        }
        state.refused.iter().for_each(|problem| tracing::error!(problem, "the node's network cannot work"));
        state.warnings.iter().for_each(|problem| tracing::warn!(problem, "the node's network"));
        self.said = now;
    }

    async fn sync(&mut self, routes: &[Route]) -> Vec<(Route, DeviceError)> {
        let all = |what: String| {
            let error = |route: &Route| (*route, DeviceError { what: what.clone(), source: None });
            routes.iter().map(error).collect()
        };
        let Some(applied) = &self.applied else {
            return all("the node's devices are not set up yet".to_owned());
        };
        let wanted: Vec<(Route, RouteEntry)> =
            routes.iter().filter_map(|route| Some((*route, applied.entry(route)?))).collect();
        let mut failed = Vec::new();
        let mut entries: Vec<RouteEntry> = wanted.iter().map(|(_, entry)| *entry).collect();
        entries.extend(applied.guards());
        match self.links.sync_routes(Owner::Node, &entries).await {
            Err(error) => return all(error.to_string()),
            Ok(errors) => {
                for (entry, error) in errors {
                    match wanted.iter().find(|(_, wanted)| wanted.destination == entry.destination) {
                        Some((route, _)) => failed.push((*route, error.into())),
                        None => {
                            tracing::warn!(%entry, %error, "a route of the node itself cannot be kept as it should")
                        }
                    }
                }
            }
        }
        failed
    }
}

impl Applied {
    /// None: through an overlay that there is not any more.
    fn entry(&self, route: &Route) -> Option<RouteEntry> {
        match (route.via, &self.overlay) {
            (Some(NextHop { address, device }), _) => {
                Some(RouteEntry { gateway: Some(address), ..RouteEntry::direct(route.cidr, device) })
            }
            (None, Some(overlay)) => {
                let same_family = |a: &&IpAddr| a.is_ipv4() == route.cidr.addr().is_ipv4();
                let source = self.overlay_addresses.iter().find(same_family).copied();
                Some(RouteEntry { source, ..RouteEntry::direct(route.cidr, overlay.index) })
            }
            (None, None) => None,
        }
    }

    /// Addresses of our own CIDRs that no pod has are unreachable: without this, packets to a pod that is gone would follow the
    /// default route, perhaps to come back from there.
    fn guards(&self) -> impl Iterator<Item = RouteEntry> + '_ {
        self.pod_cidrs.iter().copied().map(RouteEntry::unreachable)
    }
}

fn families(spec: &NetworkSpec) -> Families {
    let pods = || spec.pod_cidrs.iter().map(IpNet::addr).chain(spec.overlay_addresses.iter().copied());
    Families { ipv4: pods().any(|address| address.is_ipv4()), ipv6: pods().any(|address| address.is_ipv6()) }
}

/// What fits through the way to other nodes' pods: where they are tunnelled, what the tunnel end's device leaves; else the least
/// of the devices with node addresses. What leaves by others is told by path MTU discovery where it is too long.
fn pod_mtu(spec: &NetworkSpec, host: &Host, uplink: &Device) -> u32 {
    match spec.tunnel_end {
        Some(end) => host.holder(end).unwrap_or(uplink).mtu.saturating_sub(vxlan::overhead(end)),
        None => {
            let holders = spec.node_addresses.iter().filter_map(|&address| host.holder(address));
            holders.map(|device| device.mtu).min().unwrap_or(uplink.mtu)
        }
    }
}

fn unfit(device: &Device) -> String {
    format!(
        "device {} leads out of this node and carries no Ethernet frames: pods' packets that leave by it are not masqueraded",
        device.name
    )
}

fn still_tracked(error: std::io::Error) -> String {
    format!("the host tracks tunnel packets as connections, which takes time and room: nftables: {error}")
}

fn describe(error: &LinkError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}

impl DeviceOps for Devices {
    fn apply<'a>(&'a mut self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<NetworkState, DeviceError>> {
        async move { self.apply_spec(spec).await.map_err(DeviceError::from) }.boxed()
    }

    fn routes<'a>(&'a mut self, routes: &'a [Route]) -> BoxFuture<'a, Vec<(Route, DeviceError)>> {
        self.sync(routes).boxed()
    }

    fn neighbours<'a>(&'a mut self, next_hops: &'a [NextHop]) -> BoxFuture<'a, Result<(), DeviceError>> {
        async move { self.links.sync_managed(next_hops).await.map_err(DeviceError::from) }.boxed()
    }
}
