//! Taking everything of ours off a node, when the network is uninstalled.

use axoneme_bpf::programs::ALL;

use super::filter::Direction;
use super::route::Owner;
use super::uplink::is_own_device;
use super::{LinkError, Links, Operation};
use crate::nftables::untracked;

/// Group that devices are put into to be removed together: some number that nobody else uses.
const LEAVING: u32 = 0x6178_6f02;

impl Links {
    /// Removes every device, route, neighbour and rule of ours, and our programs from the devices of others. What others made stays,
    /// also on the same devices. Pods that were attached have no network after this.
    ///
    /// # Errors
    /// What the kernel refused first; nothing is lost by trying again.
    pub async fn remove_everything(&self) -> Result<(), LinkError> {
        let (ours, others): (Vec<_>, Vec<_>) =
            self.devices().await?.into_iter().partition(|device| is_own_device(&device.name));
        let mut leaving = false;
        for device in &ours {
            match self.set_group(device.index, LEAVING).await {
                // Its other end went meanwhile, with the pod.
                Err(error) if error.is_absent() => {}
                result => {
                    result?;
                    leaving = true;
                }
            }
        }
        if leaving {
            self.delete_group(LEAVING).await?;
        }
        for device in &others {
            for direction in [Direction::Ingress, Direction::Egress] {
                let name = self.filter_name(device.index, direction).await?;
                if name.is_some_and(|name| ALL.iter().any(|(ours, _)| *ours == name)) {
                    self.delete_filter(device.index, direction).await?;
                }
            }
        }
        for owner in [Owner::Node, Owner::Pod] {
            if let Some((_, error)) = self.sync_routes(owner, &[]).await?.into_iter().next() {
                return Err(error);
            }
        }
        self.sync_managed(&[]).await?;
        let object = format!("table {} of nftables", untracked::TABLE);
        untracked::remove().map_err(|source| LinkError::Netlink { operation: Operation::Delete, object, source })
    }
}
