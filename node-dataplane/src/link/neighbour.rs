//! Neighbours that need not be asked for, and those that the kernel keeps asking.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;

use super::route::Owner;
use super::{LinkError, Links, Mac, Operation};
use crate::reconcile::ops::NextHop;

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

    /// Has the kernel keep exactly these next hops resolved, of those that this daemon once named: it asks them before others
    /// have to wait, and asks those that answer one by one instead of all at once. Others' entries stay.
    ///
    /// # Errors
    /// The first that the kernel refused; the rest is done.
    pub async fn sync_managed(&self, wanted: &[NextHop]) -> Result<(), LinkError> {
        let listed = self.list_neighbours().await?;
        let mut present: BTreeMap<NextHop, NeighbourMessage> = listed.into_iter().filter_map(managed).collect();
        let mut result = Ok(());
        for &next_hop in wanted {
            if present.remove(&next_hop).is_some() {
                continue;
            }
            let NextHop { address, device } = next_hop;
            // Exempt from the table's limit, because they are many where nodes are.
            let mut request = self
                .handle
                .neighbours()
                .add(device, address)
                .state(NeighbourState::None)
                .flags(NeighbourFlags::ExtLearned)
                .replace();
            let attributes = &mut request.message_mut().attributes;
            attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(Owner::Node.number())));
            attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
            let what = format!("managed neighbour {address} on device {device}");
            let set = request.execute().await.map_err(LinkError::netlink(Operation::Set, what));
            result = result.and(set);
        }
        for (NextHop { address, device }, message) in present {
            let what = format!("managed neighbour {address} on device {device}");
            let deleted = self.handle.neighbours().del(message).execute().await;
            match deleted.map_err(LinkError::netlink(Operation::Delete, what)) {
                Err(error) if !error.is_absent() => result = result.and(Err(error)),
                _ => {}
            }
        }
        result
    }

    async fn list_neighbours(&self) -> Result<Vec<NeighbourMessage>, LinkError> {
        let _listing = self.listing.lock().await;
        let listed = self.handle.neighbours().get().execute().try_collect().await;
        listed.map_err(LinkError::netlink(Operation::List, "neighbours"))
    }

    /// The permanent neighbours on a device.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn neighbours(&self, device: u32) -> Result<Vec<(IpAddr, Mac)>, LinkError> {
        let all = self.list_neighbours().await?;
        Ok(all.iter().filter(|message| message.header.ifindex == device).filter_map(permanent).collect())
    }
}

/// A next hop that this daemon once named, and the entry without what only the kernel may say of it.
fn managed(mut message: NeighbourMessage) -> Option<(NextHop, NeighbourMessage)> {
    let ours = |attribute: &NeighbourAttribute| matches!(attribute, NeighbourAttribute::Protocol(protocol) if u8::from(*protocol) == Owner::Node.number());
    if !message.attributes.iter().any(ours) {
        return None;
    }
    let address = message.attributes.iter().find_map(destination)?;
    message.attributes.retain(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)));
    Some((NextHop { address, device: message.header.ifindex }, message))
}

fn destination(attribute: &NeighbourAttribute) -> Option<IpAddr> {
    match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn permanent(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    });
    Some((message.attributes.iter().find_map(destination)?, mac?))
}
