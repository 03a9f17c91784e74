//! Which devices lead to other nodes, and which addresses are the host's.

use std::net::IpAddr;

use super::address::DeviceAddress;
use super::device::Device;
use super::{LinkError, Links, OVERLAY_DEVICE, POD_DEVICE_PREFIX};

/// What the node has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Devices that lead to other nodes, never empty; the first one holds the first of the node's addresses.
    pub uplinks: Vec<Device>,
    /// Its global addresses but the overlay's and those of pods' devices.
    pub addresses: Vec<IpAddr>,
}

impl Links {
    /// Finds the uplinks: devices that hold one of the node's addresses; when none is known yet, those of default routes.
    ///
    /// # Errors
    /// When no device qualifies, or the kernel refuses.
    pub async fn host(&self, node_addresses: &[IpAddr]) -> Result<Host, LinkError> {
        let (devices, addresses) = (self.devices().await?, self.addresses().await?);
        let ours = |index: u32| devices.iter().any(|d| d.index == index && is_ours(&d.name));
        let indices = if node_addresses.is_empty() {
            let routes = self.default_routes().await?;
            routes.iter().filter_map(|route| route.device).filter(|&index| !ours(index)).collect()
        } else {
            holders(node_addresses, &addresses)
        };
        let mut uplinks: Vec<Device> = Vec::new();
        for index in indices {
            let unseen = !uplinks.iter().any(|uplink| uplink.index == index);
            uplinks.extend(devices.iter().find(|device| device.index == index && unseen).cloned());
        }
        if uplinks.is_empty() {
            return Err(match node_addresses {
                [] => LinkError::NoDefaultRoute,
                some => LinkError::NoUplink(some.to_vec()),
            });
        }
        let mut host: Vec<_> =
            addresses.iter().filter(|a| a.global && !ours(a.device)).map(|a| a.prefix.addr()).collect();
        host.sort_unstable();
        host.dedup();
        Ok(Host { uplinks, addresses: host })
    }
}

fn holders(node_addresses: &[IpAddr], addresses: &[DeviceAddress]) -> Vec<u32> {
    let holder = |wanted: &IpAddr| addresses.iter().find(|have| have.prefix.addr() == *wanted).map(|have| have.device);
    node_addresses.iter().filter_map(holder).collect()
}

fn is_ours(name: &str) -> bool {
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
    use super::*;

    #[test]
    fn pod_devices_are_told_by_name() {
        assert!(is_pod_device("axo0123456789a"));
        for other in ["axoneme_vxlan", "axo0123456789", "axo0123456789G", "eth0"] {
            assert!(!is_pod_device(other), "{other}");
        }
    }
}
