//! The inside of a pod's network namespace.
//!
//! A pod sees one neighbour, its gateway, at a link-local address that is the same on all nodes and for which it need not ask:
//! the neighbour entry is permanent and holds the host side's Ethernet address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::LinkUnspec;

use super::device::{Device, index};
use super::netns::Namespace;
use super::route::{Owner, RouteEntry};
use super::veth::{PodPrograms, VethSpec};
use super::worker::Desk;
use super::{LinkError, Links, Mac, sysctl};

/// Group of devices that are being removed ("axo" and a 1).
const REMOVED: u32 = 0x6178_6f01;

/// Index of `lo`, the first device of every namespace.
const LOOPBACK: u32 = 1;

/// What a pod's inside shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Name of its device.
    pub device: String,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// Ethernet address of the gateway: the host side's.
    pub gateway_mac: Mac,
    /// MTU of its default routes.
    pub mtu: u32,
}

/// The gateway of pods, in the family of `address`.
#[must_use]
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    }
}

impl PodSpec {
    fn routes(&self, device: u32) -> Vec<RouteEntry> {
        let via = |&address: &IpAddr| {
            let gateway = gateway(address);
            let direct = RouteEntry::direct(IpNet::from(gateway), device);
            [direct, RouteEntry { mtu: Some(self.mtu), ..RouteEntry::default_via(gateway, device) }]
        };
        self.addresses.iter().flat_map(via).collect()
    }
}

/// Configures a pod's inside: `lo`, addresses, gateway, default routes.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn configure(namespace: &Namespace, spec: PodSpec) -> Result<(), LinkError> {
    namespace.run(move |links| async move { links.configure_pod(&spec).await }).await
}

impl Desk {
    /// Makes all of a pod's devices, in and out of its namespace, in place of what an earlier try left. Returns the host side.
    ///
    /// # Errors
    /// When the kernel refuses; some of it may be there then.
    pub async fn make_pod(
        &self,
        veth: &VethSpec,
        inside: &PodSpec,
        programs: PodPrograms<'_>,
        namespace: &Namespace,
    ) -> Result<Device, LinkError> {
        let device = match self.links.create_veth(veth, namespace).await {
            // Its intent was lost with the disk, or its undoing failed.
            Err(error) if error.is_present() => {
                self.remove_device(&veth.host_name).await?;
                self.links.create_veth(veth, namespace).await?
            }
            result => result?,
        };
        self.inside(namespace, async |links| links.configure_pod(inside).await).await?;
        self.links.configure_host_side(&device, veth, &inside.addresses, programs).await?;
        Ok(device)
    }

    /// Removes the device of this name, if there is one. Routes, neighbours, filters and the other end go with it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_device(&self, name: &str) -> Result<(), LinkError> {
        match index(name) {
            Ok(index) => self.links.delete_device(index).await,
            Err(_) => Ok(()),
        }
    }

    /// Removes the devices of these names, where there are any. The kernel waits for the same few grace periods for many as for
    /// one, when they are of a group: one of its own, in which is only what is to go. What a daemon that dies meanwhile leaves
    /// there goes with the next ones, or with its own next DEL.
    pub(super) async fn remove_devices(&self, names: &[String]) -> Vec<Result<(), LinkError>> {
        if names.len() > 1 {
            match self.remove_group(names).await {
                Ok(()) => return names.iter().map(|_| Ok(())).collect(),
                Err(error) => tracing::warn!(%error, "devices are removed one by one"),
            }
        }
        let mut results = Vec::new();
        for name in names {
            results.push(self.remove_device(name).await);
        }
        results
    }

    async fn remove_group(&self, names: &[String]) -> Result<(), LinkError> {
        for index in names.iter().filter_map(|name| index(name).ok()) {
            match self.links.set_group(index, REMOVED).await {
                Err(error) if !error.is_absent() => return Err(error),
                _ => {}
            }
        }
        self.links.delete_group(REMOVED).await
    }
}

/// What a pod's inside lacks, in words; empty when nothing.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn examine(namespace: &Namespace, spec: PodSpec) -> Result<Vec<String>, LinkError> {
    namespace.run(move |links| async move { links.examine_pod(&spec).await }).await
}

/// A pod's device, if there is one.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn device(namespace: &Namespace, device: String) -> Result<Option<Device>, LinkError> {
    namespace.run(move |links| async move { links.device(&device).await }).await
}

/// The Ethernet address of a pod's device, if there is one.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn device_mac(namespace: &Namespace, name: String) -> Result<Option<Mac>, LinkError> {
    Ok(device(namespace, name).await?.and_then(|device| device.mac))
}

/// Makes a pod's device and default routes have the MTU of `spec`. The device must be the pod's, by its Ethernet address: a
/// path of a namespace may be another's by now.
///
/// # Errors
/// When the namespace cannot be entered, is another pod's, or the kernel refuses.
pub async fn set_mtu(namespace: &Namespace, spec: PodSpec, mac: Mac) -> Result<(), LinkError> {
    namespace.run(move |links| async move { links.set_pod_mtu(&spec, mac).await }).await
}

impl Links {
    async fn set_pod_mtu(&self, spec: &PodSpec, mac: Mac) -> Result<(), LinkError> {
        let device = self.device(&spec.device).await?.filter(|device| device.mac == Some(mac));
        let device = device.ok_or_else(|| LinkError::NoDevice(format!("{} with address {mac}", spec.device)))?;
        let grows = spec.mtu > device.mtu;
        if grows {
            self.set_mtu(&device, spec.mtu).await?;
        }
        for route in spec.routes(device.index) {
            self.set_route(&route, Owner::Pod).await?;
        }
        if grows { Ok(()) } else { self.set_mtu(&device, spec.mtu).await }
    }

    async fn configure_pod(&self, spec: &PodSpec) -> Result<(), LinkError> {
        if spec.addresses.iter().any(IpAddr::is_ipv6) {
            // Runtimes switch IPv6 off in namespaces of which they do not know that it is wanted.
            for scope in ["all", "default", spec.device.as_str()] {
                sysctl::ensure(&["ipv6", "conf", scope, "disable_ipv6"], "0")?;
            }
        }
        let device = index(&spec.device)?;
        self.set_device("lo", LinkUnspec::new_with_index(LOOPBACK).up()).await?;
        self.set_device(&spec.device, LinkUnspec::new_with_index(device).up()).await?;
        for &address in &spec.addresses {
            self.add_address(device, IpNet::from(address)).await?;
            self.set_neighbour(device, gateway(address), spec.gateway_mac).await?;
        }
        for route in spec.routes(device) {
            self.set_route(&route, Owner::Pod).await?;
        }
        Ok(())
    }

    async fn examine_pod(&self, spec: &PodSpec) -> Result<Vec<String>, LinkError> {
        let Some(device) = self.device(&spec.device).await? else {
            return Ok(vec![format!("there is no device {}", spec.device)]);
        };
        let mut missing = Vec::new();
        if !device.up {
            missing.push(format!("device {} is down", spec.device));
        }
        let (addresses, routes) = (self.addresses().await?, self.routes(Owner::Pod).await?);
        let neighbours = self.neighbours(device.index).await?;
        for &address in &spec.addresses {
            if !addresses.iter().any(|have| have.device == device.index && have.prefix == IpNet::from(address)) {
                missing.push(format!("device {} lacks address {address}", spec.device));
            }
            if !neighbours.contains(&(gateway(address), spec.gateway_mac)) {
                missing.push(format!("gateway {} is not at {}", gateway(address), spec.gateway_mac));
            }
        }
        let lacking = spec.routes(device.index).into_iter().filter(|route| !routes.contains(route));
        missing.extend(lacking.map(|route| format!("there is no {route}")));
        Ok(missing)
    }
}
