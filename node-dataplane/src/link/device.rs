//! Devices by name and index.

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use rtnetlink::{LinkDelRequest, LinkMessageBuilder, LinkUnspec};

use super::{LinkError, Links, Mac, Operation, sysctl};

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace, never 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// Resolves no neighbours.
    pub noarp: bool,
    /// The number of the device at its other end (of a veth) or below it, which may be in another namespace.
    pub link: Option<u32>,
    /// Its packets are Ethernet frames.
    pub ethernet: bool,
    /// Index of the bridge or bond that it is a port of.
    pub controller: Option<u32>,
    /// What `ip link set alias` set.
    pub alias: Option<String>,
    /// Settings, of VXLAN devices only.
    pub vxlan: Option<Vxlan>,
}

/// Settings of a VXLAN device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// UDP, host order.
    pub port: u16,
    /// Tunnel keys come with each packet.
    pub collect_metadata: bool,
}

impl Links {
    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn device(&self, name: &str) -> Result<Option<Device>, LinkError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found.map_err(LinkError::netlink(Operation::List, format_args!("device {name}"))) {
            Ok(message) => Ok(message.map(device)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device with this number, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn device_at(&self, index: u32) -> Result<Option<Device>, LinkError> {
        let found = self.handle.link().get().match_index(index).execute().try_next().await;
        match found.map_err(LinkError::netlink(Operation::List, format_args!("device {index}"))) {
            Ok(message) => Ok(message.map(device)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn devices(&self) -> Result<Vec<Device>, LinkError> {
        let _listing = self.listing.lock().await;
        let messages = self.handle.link().get().execute().map_ok(device).try_collect().await;
        messages.map_err(LinkError::netlink(Operation::List, "devices"))
    }

    /// Removes a device; an absent one is removed already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_device(&self, index: u32) -> Result<(), LinkError> {
        let deleted = self.handle.link().del(index).execute().await;
        match deleted.map_err(LinkError::netlink(Operation::Delete, format_args!("device {index}"))) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes all devices of a group, in about the time of one; none is removed already.
    ///
    /// # Errors
    /// When the kernel refuses, for one because the group has a device that cannot be removed; then nothing is.
    pub(super) async fn delete_group(&self, group: u32) -> Result<(), LinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let deleted = LinkDelRequest::new_with_message(self.handle.clone(), message).execute().await;
        match deleted.map_err(LinkError::netlink(Operation::Delete, format_args!("devices of group {group}"))) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts a device into a group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn set_group(&self, index: u32, group: u32) -> Result<(), LinkError> {
        let change = LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::Group(group));
        self.set_device(&index.to_string(), change).await
    }

    /// Sets a device's MTU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_mtu(&self, device: &Device, mtu: u32) -> Result<(), LinkError> {
        if device.mtu == mtu {
            return Ok(());
        }
        self.set_device(&device.name, LinkUnspec::new_with_index(device.index).mtu(mtu)).await
    }

    /// Brings a device of ours up, with what else changes. It makes itself no link-local address, which would only be announced to the
    /// pod: that has to be said before, because the kernel brings a device up before it reads how addresses are made.
    pub(super) async fn bring_up(
        &self,
        device: &Device,
        change: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LinkError> {
        if sysctl::get(&["ipv6", "conf", &device.name, "disable_ipv6"]).is_some() {
            let none = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
            let none = LinkAttribute::AfSpecUnspec(none);
            self.set_device(&device.name, LinkUnspec::new_with_index(device.index).append_extra_attribute(none))
                .await?;
        }
        self.set_device(&device.name, change.up()).await
    }

    /// Changes a device by a message made of its index and what shall change.
    pub(super) async fn set_device(&self, name: &str, change: LinkMessageBuilder<LinkUnspec>) -> Result<(), LinkError> {
        let set = self.handle.link().set(change.build()).execute().await;
        set.map_err(LinkError::netlink(Operation::Set, format_args!("device {name}")))
    }
}

/// The number of the device of this name in the calling thread's namespace: cheaper than all that netlink tells of it.
pub(super) fn index(name: &str) -> Result<u32, LinkError> {
    nix::net::if_::if_nametoindex(name).map_err(|_| LinkError::NoDevice(name.to_owned()))
}

fn device(message: LinkMessage) -> Device {
    let flags = message.header.flags;
    let mut device = Device {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        noarp: flags.contains(LinkFlags::Noarp),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        ..Device::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::Mtu(mtu) => device.mtu = mtu,
            LinkAttribute::Address(bytes) => device.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::Link(index) => device.link = Some(index),
            LinkAttribute::Controller(index) => device.controller = Some(index),
            LinkAttribute::IfAlias(alias) => device.alias = Some(alias),
            LinkAttribute::LinkInfo(infos) => device.vxlan = infos.into_iter().find_map(vxlan),
            _ => {}
        }
    }
    device
}

fn vxlan(info: LinkInfo) -> Option<Vxlan> {
    let LinkInfo::Data(InfoData::Vxlan(settings)) = info else { return None };
    let mut vxlan = Vxlan::default();
    for setting in settings {
        match setting {
            InfoVxlan::Port(port) => vxlan.port = port,
            InfoVxlan::CollectMetadata(on) => vxlan.collect_metadata = on,
            _ => {}
        }
    }
    Some(vxlan)
}
