//! The VXLAN device.

use std::net::IpAddr;

use rtnetlink::{LinkUnspec, LinkVxlan};

use super::device::Device;
use super::{LinkError, Links, OVERLAY_DEVICE, Operation};

/// What VXLAN adds to a packet: Ethernet 14, VXLAN 8, UDP 8 and the outer IP header (20 or 40).
#[must_use]
pub fn overhead(outer: IpAddr) -> u32 {
    if outer.is_ipv6() { 70 } else { 50 }
}

impl Links {
    /// Makes the overlay device: tunnel keys come from the programs (`collect_metadata`), so one device serves all nodes.
    ///
    /// It resolves no neighbours: the programs address the tunnel by the packet's destination, and the receiver accepts any
    /// Ethernet address. A device with another port or of another kind is replaced, because neither can be changed.
    ///
    /// # Errors
    /// When the kernel refuses the device or its settings.
    pub async fn ensure_overlay(&self, port: u16, mtu: u32) -> Result<Device, LinkError> {
        let name = OVERLAY_DEVICE;
        if let Some(device) = self.device(name).await?
            && !device.vxlan.is_some_and(|vxlan| vxlan.port == port && vxlan.collect_metadata)
        {
            tracing::info!(device = name, port, "replacing the overlay device: its port or kind differs");
            self.delete_device(device.index).await?;
        }
        let mut device = match self.device(name).await? {
            Some(device) => device,
            None => self.create_overlay(port, mtu).await?,
        };
        if device.mtu != mtu || !device.up || !device.noarp {
            self.bring_up(&device, LinkUnspec::new_with_index(device.index).mtu(mtu).arp(false)).await?;
            device = Device { mtu, up: true, noarp: true, ..device };
        }
        Ok(device)
    }

    async fn create_overlay(&self, port: u16, mtu: u32) -> Result<Device, LinkError> {
        let name = OVERLAY_DEVICE;
        let message = LinkVxlan::new(name, 0)
            .collect_metadata(true)
            .port(port)
            .learning(false)
            .udp_zero_csum6_tx(true)
            .udp_zero_csum6_rx(true)
            .mtu(mtu)
            .build();
        let created = self.handle.link().add(message).execute().await;
        created
            .map_err(LinkError::netlink(Operation::Create, format_args!("VXLAN device {name} on UDP port {port}")))?;
        self.device(name).await?.ok_or_else(|| LinkError::NoDevice(name.to_owned()))
    }

    /// Removes the overlay device, if there is one: in native routing nobody needs it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_overlay(&self) -> Result<(), LinkError> {
        match self.device(OVERLAY_DEVICE).await? {
            Some(device) => self.delete_device(device.index).await,
            None => Ok(()),
        }
    }
}
