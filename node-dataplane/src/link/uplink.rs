//! Which devices lead to other nodes and to the world, and which addresses are the host's.

use std::net::IpAddr;

use super::address::DeviceAddress;
use super::device::Device;
use super::route::Underlay;
use super::source::sources;
use super::{LinkError, Links, OVERLAY_DEVICE, POD_DEVICE_PREFIX};
use crate::reconcile::ops::{NextHop, OnLink, UplinkAddresses};

/// What the node has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Devices that lead to other nodes or to the world, never empty; first those that hold the node's addresses, in the order
    /// of these.
    pub uplinks: Vec<Device>,
    /// Its global addresses and their devices, but for those of our own devices.
    pub addresses: Vec<(IpAddr, u32)>,
    /// What is reached through uplinks without a router, longest prefix first.
    pub on_link: Vec<OnLink>,
    /// The routers of default routes through uplinks.
    pub gateways: Vec<NextHop>,
    /// What leaves by the uplinks with addresses of their own.
    pub sources: Vec<UplinkAddresses>,
    /// Devices that would be uplinks if they could: programs read Ethernet frames.
    pub unfit: Vec<Device>,
}

impl Host {
    /// The uplink that holds this address.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&Device> {
        let (_, index) = self.addresses.iter().find(|(have, _)| *have == address)?;
        self.uplinks.iter().find(|uplink| uplink.index == *index)
    }
}

/// Names of devices, as Cilium's `devices` has them: `eth0`, `eth+` or `eth*` for all that begin so, `!eth1` for none that is
/// called so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// In words as configured.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    fn wants(&self) -> bool {
        self.0.iter().any(|pattern| !pattern.starts_with('!'))
    }

    fn include(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| !pattern.starts_with('!') && matches(pattern, name))
    }

    fn exclude(&self, name: &str) -> bool {
        self.0.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| matches(pattern, name))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(['+', '*']) {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

impl Links {
    /// Finds the uplinks: devices that hold one of the node's addresses, and those that `patterns` name or, where they name
    /// none, those of default routes.
    ///
    /// # Errors
    /// When no device qualifies, or the kernel refuses.
    pub async fn host(&self, node_addresses: &[IpAddr], patterns: &Patterns) -> Result<Host, LinkError> {
        let (devices, addresses) = (self.devices().await?, self.addresses().await?);
        let host = select(&devices, &addresses, &self.underlay().await?, node_addresses, patterns);
        let lacks_holder = !node_addresses.is_empty() && !node_addresses.iter().any(|&a| host.holder(a).is_some());
        match node_addresses {
            [] if host.uplinks.is_empty() => Err(LinkError::NoDefaultRoute),
            some if lacks_holder => Err(LinkError::NoUplink(some.to_vec())),
            _ => Ok(host),
        }
    }
}

fn select(
    devices: &[Device],
    addresses: &[DeviceAddress],
    underlay: &Underlay,
    node_addresses: &[IpAddr],
    patterns: &Patterns,
) -> Host {
    let device = |index: u32| devices.iter().find(|device| device.index == index);
    let ours = |index: u32| device(index).is_some_and(|device| is_own_device(&device.name));
    let holder = |wanted: &IpAddr| addresses.iter().find(|have| have.prefix.addr() == *wanted).map(|have| have.device);
    let holders: Vec<u32> = node_addresses.iter().filter_map(holder).collect();
    let others: Vec<u32> = if patterns.wants() {
        // What comes through a bridge's or a bond's port is seen on these.
        let free = devices.iter().filter(|device| device.controller.is_none() && patterns.include(&device.name));
        free.map(|device| device.index).collect()
    } else {
        underlay.default.iter().map(|hop| hop.device).collect()
    };
    let others = others.into_iter().filter(|&index| device(index).is_some_and(|d| !patterns.exclude(&d.name)));

    let mut host = Host::default();
    for index in holders.into_iter().chain(others).filter(|&index| !ours(index)) {
        let Some(device) = device(index).filter(|device| device.name != "lo") else { continue };
        let list = if device.ethernet { &mut host.uplinks } else { &mut host.unfit };
        if !list.iter().any(|have| have.index == index) {
            list.push(device.clone());
        }
    }
    let is_uplink = |index: u32| host.uplinks.iter().any(|uplink| uplink.index == index);
    let on_link = underlay.on_link.iter().filter(|(_, device)| is_uplink(*device));
    host.on_link = on_link.map(|&(prefix, device)| OnLink { prefix, device }).collect();
    let gateways = underlay.default.iter().filter(|hop| is_uplink(hop.device));
    host.gateways = gateways.filter_map(|hop| Some(NextHop { address: hop.router?, device: hop.device })).collect();
    host.gateways.sort_unstable();
    host.gateways.dedup();
    let own = addresses.iter().filter(|a| a.global && !ours(a.device));
    host.addresses = own.map(|a| (a.prefix.addr(), a.device)).collect();
    host.addresses.sort_unstable();
    host.addresses.dedup();
    host.sources = sources(&host.uplinks, addresses, underlay, node_addresses);
    host
}

/// Whether a device's name is one that this daemon gives.
pub(super) fn is_own_device(name: &str) -> bool {
    name == OVERLAY_DEVICE || is_pod_device(name)
}

/// Whether a device's name is that of a pod's host side.
#[must_use]
pub fn is_pod_device(name: &str) -> bool {
    name.strip_prefix(POD_DEVICE_PREFIX)
        .is_some_and(|rest| rest.len() == 11 && rest.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::super::route::DefaultHop;
    use super::*;

    #[test]
    fn pod_devices_are_told_by_name() {
        assert!(is_pod_device("axo0123456789a"));
        for other in ["axoneme_vxlan", "axo0123456789", "axo0123456789G", "eth0"] {
            assert!(!is_pod_device(other), "{other}");
        }
    }

    #[test]
    fn uplinks_hold_addresses_or_default_routes_or_are_named() {
        let device = |index: u32, name: &str| Device { index, name: name.into(), ethernet: true, ..Device::default() };
        let devices = [
            device(1, "lo"),
            device(2, "eth0"),
            device(3, "eth1"),
            Device { controller: Some(2), ..device(4, "eth2") },
            Device { ethernet: false, ..device(5, "tun0") },
            device(6, "axo0123456789a"),
        ];
        let hop = |device| DefaultHop { device, router: None, source: None };
        let underlay = Underlay { default: vec![hop(3), hop(5)], on_link: vec![] };
        let uplinks = |patterns: &[&str]| {
            let patterns = Patterns::new(patterns.iter().map(|&pattern| pattern.to_owned()).collect());
            let host = select(&devices, &[], &underlay, &[], &patterns);
            let names = |devices: Vec<Device>| devices.into_iter().map(|d| d.name).collect::<Vec<_>>().join(" ");
            (names(host.uplinks), names(host.unfit))
        };
        let is = |fit: &str, unfit: &str| (fit.to_owned(), unfit.to_owned());
        assert_eq!(uplinks(&[]), is("eth1", "tun0"));
        assert_eq!(uplinks(&["!tun+"]), is("eth1", ""));
        assert_eq!(uplinks(&["eth+"]), is("eth0 eth1", ""));
        assert_eq!(uplinks(&["eth*", "!eth1"]), is("eth0", ""));
        assert_eq!(uplinks(&["eth0"]), is("eth0", ""));
        assert_eq!(uplinks(&["axo*"]), is("", ""));
    }
}
