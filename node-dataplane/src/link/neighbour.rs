//! Neighbours that need not be asked for.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{LinkError, Links, Mac, Operation};

impl Links {
    /// Makes `mac` the Ethernet address of `address` on a device, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_neighbour(&self, device: u32, address: IpAddr, mac: Mac) -> Result<(), LinkError> {
        let request = self.handle.neighbours().add(device, address).link_layer_address(&mac.0).replace();
        let set = request.execute().await;
        set.map_err(LinkError::netlink(Operation::Set, format_args!("neighbour {address} on device {device}")))
    }

    /// The permanent neighbours on a device.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn neighbours(&self, device: u32) -> Result<Vec<(IpAddr, Mac)>, LinkError> {
        let all: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(LinkError::netlink(Operation::List, "neighbours"))?;
        Ok(all.iter().filter(|message| message.header.ifindex == device).filter_map(permanent).collect())
    }
}

fn permanent(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((address?, mac?))
}
