//! An attachment's entries: `ax_endpoints` by device, `ax_addresses` by address.

use std::net::IpAddr;

use axoneme_bpf::address::{Address, AddressKey, AddressKind};
use axoneme_bpf::endpoint::Endpoint;

use super::attachment::Attachment;
use crate::reconcile::ops::{MapError, MapOps};

/// The maps in which attachments are written. `ax_addresses` has other writers too; theirs are not touched.
pub struct EndpointMaps {
    /// `ax_endpoints`
    pub endpoints: Box<dyn MapOps<u32, Endpoint>>,
    /// `ax_addresses`
    pub addresses: Box<dyn MapOps<AddressKey, Address>>,
}

impl std::fmt::Debug for EndpointMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointMaps").finish_non_exhaustive()
    }
}

impl EndpointMaps {
    /// Writes all entries of an attachment, the endpoint before the addresses that lead to it.
    pub(super) fn write(&mut self, attachment: &Attachment) -> Result<(), MapError> {
        self.endpoints.update(&attachment.ifindex, &attachment.entry())?;
        for &address in &attachment.addresses {
            self.addresses.update(&AddressKey::from(address), &Address::endpoint(attachment.ifindex))?;
        }
        Ok(())
    }

    /// Changes what an endpoint is enforced with, by one write, so that no packet sees a mixture.
    pub(super) fn enforce(&mut self, attachment: &Attachment) -> Result<(), MapError> {
        self.endpoints.update(&attachment.ifindex, &attachment.entry())
    }

    /// Removes the entries of an attachment; addresses that lead elsewhere by now stay.
    pub(super) fn remove(&mut self, attachment: &Attachment) -> Result<(), MapError> {
        if attachment.ifindex == 0 {
            return Ok(());
        }
        for &address in &attachment.addresses {
            if self.leads_to(address, attachment.ifindex)? {
                self.addresses.delete(&AddressKey::from(address))?;
            }
        }
        self.endpoints.delete(&attachment.ifindex)
    }

    /// What is missing of an attachment's entries, in words. `current`: its addresses must lead to it.
    pub(super) fn examine(&self, attachment: &Attachment, current: bool) -> Result<Vec<String>, MapError> {
        let mut missing = Vec::new();
        if self.endpoints.get(&attachment.ifindex)? != Some(attachment.entry()) {
            missing.push(format!("map {} has no or another entry for {}", self.endpoints.name(), attachment.device));
        }
        for &address in attachment.addresses.iter().filter(|_| current) {
            if !self.leads_to(address, attachment.ifindex)? {
                missing.push(format!("map {} does not lead {address} to {}", self.addresses.name(), attachment.device));
            }
        }
        Ok(missing)
    }

    /// Removes entries of devices that are not in `keep`. Returns how many.
    pub(super) fn prune(&mut self, keep: impl Fn(u32) -> bool) -> Result<usize, MapError> {
        let (mut endpoints, mut addresses) = (Vec::new(), Vec::new());
        self.endpoints.dump(&mut |ifindex, _| {
            if !keep(ifindex) {
                endpoints.push(ifindex);
            }
        })?;
        self.addresses.dump(&mut |key, value| {
            if value.kind == AddressKind::ENDPOINT && !keep(value.ifindex) {
                addresses.push(key);
            }
        })?;
        for address in &addresses {
            self.addresses.delete(address)?;
        }
        for ifindex in &endpoints {
            self.endpoints.delete(ifindex)?;
        }
        Ok(endpoints.len() + addresses.len())
    }

    fn leads_to(&self, address: IpAddr, ifindex: u32) -> Result<bool, MapError> {
        let entry = self.addresses.get(&AddressKey::from(address))?;
        Ok(entry.is_some_and(|entry| entry.kind == AddressKind::ENDPOINT && entry.ifindex == ifindex))
    }
}
