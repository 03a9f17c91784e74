//! Addresses of devices.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use super::{LinkError, Links, Operation};

/// How much the kernel likes to send from an address, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Like any other.
    Preferred,
    /// IPv4: of a subnet in which the device has another one. IPv6: one that is about to go, or for a time only.
    Reluctant,
    /// Somebody else may have it: not to be used.
    Tentative,
}

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Index of the device.
    pub device: u32,
    /// The address with its prefix.
    pub prefix: IpNet,
    /// Valid beyond its link.
    pub global: bool,
    /// Whether to send from it.
    pub standing: Standing,
    pub(super) message: AddressMessage,
}

impl Links {
    /// All addresses of all devices.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn addresses(&self) -> Result<Vec<DeviceAddress>, LinkError> {
        let _listing = self.listing.lock().await;
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(LinkError::netlink(Operation::List, "addresses"))?;
        Ok(messages.into_iter().filter_map(address).collect())
    }

    /// Gives a device an address, unless it has it.
    ///
    /// Without duplicate detection and, of IPv6, without a route for the prefix: these addresses were assigned, not guessed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_address(&self, device: u32, prefix: IpNet) -> Result<(), LinkError> {
        let mut request = self.handle.address().add(device, prefix.addr(), prefix.prefix_len());
        if prefix.addr().is_ipv6() {
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            request.message_mut().attributes.push(AddressAttribute::Flags(flags));
        }
        let added = request.execute().await;
        match added.map_err(LinkError::netlink(Operation::Create, format_args!("address {prefix} on device {device}")))
        {
            Err(error) if !error.is_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the global addresses of a device exactly these.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub async fn sync_addresses(&self, device: u32, wanted: &[IpAddr]) -> Result<(), LinkError> {
        let present: Vec<_> = self.addresses().await?.into_iter().filter(|a| a.device == device && a.global).collect();
        for &address in wanted {
            let prefix = IpNet::from(address);
            if !present.iter().any(|a| a.prefix == prefix) {
                self.add_address(device, prefix).await?;
            }
        }
        for stale in present.into_iter().filter(|a| !wanted.iter().any(|&w| a.prefix == IpNet::from(w))) {
            let prefix = stale.prefix;
            let deleted = self.handle.address().del(stale.message).execute().await;
            match deleted
                .map_err(LinkError::netlink(Operation::Delete, format_args!("address {prefix} of device {device}")))
            {
                Err(error) if !error.is_absent() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn address(message: AddressMessage) -> Option<DeviceAddress> {
    // IFA_LOCAL is the device's own address where IFA_ADDRESS is the other end's.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let prefix = IpNet::new(address, message.header.prefix_len).ok()?;
    Some(DeviceAddress {
        device: message.header.index,
        prefix,
        global: message.header.scope == AddressScope::Universe,
        standing: standing(&message),
        message,
    })
}

fn standing(message: &AddressMessage) -> Standing {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    // The number of "secondary" means "temporary" in IPv6.
    match flags.unwrap_or(AddressFlags::empty()) {
        flags if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) => Standing::Tentative,
        flags if flags.intersects(AddressFlags::Secondary | AddressFlags::Deprecated) => Standing::Reluctant,
        _ => Standing::Preferred,
    }
}
