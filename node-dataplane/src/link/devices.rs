//! The node's own devices and routes, as the state half asks for them.

use std::net::IpAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::IpNet;

use super::device::Device;
use super::route::{Owner, RouteEntry};
use super::uplink::Host;
use super::{LinkError, Links, sysctl, vxlan};
use crate::programs::Paths;
use crate::programs::attach::{Attacher, OVERLAY, UPLINK};
use crate::reconcile::ops::{DeviceError, DeviceOps, NetworkSpec, NetworkState, Route, Routing};

/// The node's own devices: uplinks, overlay, and the routes to other nodes' pods.
#[derive(Debug)]
pub struct Devices {
    links: Links,
    attacher: Attacher,
    /// What came out of the last `apply`; routes need it.
    applied: Option<Applied>,
}

#[derive(Debug)]
struct Applied {
    overlay: Option<Device>,
    uplink: Device,
    overlay_addresses: Vec<IpAddr>,
    pod_cidrs: Vec<IpNet>,
}

impl Devices {
    /// For the namespace in which `links` was connected, with the programs that are pinned below `paths`.
    ///
    /// # Errors
    /// When no programs are pinned there.
    pub fn new(links: Links, paths: Paths) -> std::io::Result<Self> {
        let attacher = Attacher::new(paths, links.clone())?;
        Ok(Self { links, attacher, applied: None })
    }

    async fn apply_spec(&mut self, spec: &NetworkSpec) -> Result<NetworkState, LinkError> {
        let Host { uplinks, addresses } = self.links.host(&spec.node_addresses).await?;
        let uplink = uplinks.first().cloned().ok_or(LinkError::NoDefaultRoute)?;
        let ipv6 =
            spec.overlay_addresses.iter().any(IpAddr::is_ipv6) || spec.pod_cidrs.iter().any(|c| c.addr().is_ipv6());
        let names: Vec<&str> = uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        sysctl::prepare_node(ipv6, &names)?;

        let outer = spec.node_addresses.first().copied();
        let pod_mtu = match (spec.mtu, spec.routing) {
            (0, Routing::Native) => uplink.mtu,
            (0, Routing::Vxlan { .. }) => uplink.mtu.saturating_sub(vxlan::overhead(outer)),
            (mtu, _) => mtu,
        };
        let overlay = match spec.routing {
            Routing::Vxlan { port } => {
                let overlay = self.links.ensure_overlay(port, pod_mtu).await?;
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
        for uplink in &uplinks {
            self.attacher.attach(uplink, &UPLINK).await?;
        }
        let keep: Vec<u32> = uplinks.iter().chain(&overlay).map(|device| device.index).collect();
        self.attacher.detach_others(&keep).await?;

        let state = NetworkState {
            tunnel_ifindex: overlay.as_ref().map_or(0, |device| device.index),
            uplink_ifindex: uplink.index,
            uplink_mtu: uplink.mtu,
            pod_mtu,
            host_addresses: addresses.into_iter().filter(|a| !spec.overlay_addresses.contains(a)).collect(),
        };
        let (overlay_addresses, pod_cidrs) = (spec.overlay_addresses.clone(), spec.pod_cidrs.clone());
        self.applied = Some(Applied { overlay, uplink, overlay_addresses, pod_cidrs });
        Ok(state)
    }

    async fn sync(&mut self, routes: &[Route]) -> Vec<(Route, DeviceError)> {
        let all = |what: String| {
            let error = |route: &Route| (route.clone(), DeviceError { what: what.clone(), source: None });
            routes.iter().map(error).collect()
        };
        let Some(applied) = &self.applied else {
            return all("the node's devices are not set up yet".to_owned());
        };
        let (wanted, mut failed): (Vec<_>, Vec<_>) = (
            routes.iter().filter_map(|route| Some((route, applied.entry(route)?))).collect(),
            routes
                .iter()
                .filter(|route| applied.entry(route).is_none())
                .map(|route| (route.clone(), no_way(route)))
                .collect(),
        );
        let mut entries: Vec<RouteEntry> = wanted.iter().map(|(_, entry)| *entry).collect();
        entries.extend(applied.guards());
        match self.links.sync_routes(Owner::Node, &entries).await {
            Err(error) => return all(error.to_string()),
            Ok(errors) => {
                for (entry, error) in errors {
                    match wanted.iter().find(|(_, wanted)| wanted.destination == entry.destination) {
                        Some((route, _)) => failed.push(((*route).clone(), error.into())),
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
    fn entry(&self, route: &Route) -> Option<RouteEntry> {
        match (route.via, &self.overlay) {
            (Some(via), _) => {
                Some(RouteEntry { gateway: Some(via), ..RouteEntry::direct(route.cidr, self.uplink.index) })
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

fn no_way(route: &Route) -> DeviceError {
    DeviceError { what: format!("the route to {} names no node, which native routing needs", route.cidr), source: None }
}

impl DeviceOps for Devices {
    fn apply<'a>(&'a mut self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<NetworkState, DeviceError>> {
        async move { self.apply_spec(spec).await.map_err(DeviceError::from) }.boxed()
    }

    fn routes<'a>(&'a mut self, routes: &'a [Route]) -> BoxFuture<'a, Vec<(Route, DeviceError)>> {
        self.sync(routes).boxed()
    }
}
