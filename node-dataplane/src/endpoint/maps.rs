//! An attachment's entries: `ax_endpoints` by device, `ax_addresses` by address, `ax_bandwidth` by device and direction.

use std::net::IpAddr;

use axoneme_bpf::address::{Address, AddressKey, AddressKind};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::inet::Direction;

use super::attachment::Attachment;
use crate::reconcile::ops::{MapError, MapOps};

/// The maps in which attachments are written. `ax_addresses` has other writers too; theirs are not touched.
pub struct EndpointMaps {
    /// `ax_endpoints`
    pub endpoints: Box<dyn MapOps<u32, Endpoint>>,
    /// `ax_addresses`
    pub addresses: Box<dyn MapOps<AddressKey, Address>>,
    /// `ax_bandwidth`
    pub bandwidth: Box<dyn MapOps<BandwidthKey, Bandwidth>>,
}

impl std::fmt::Debug for EndpointMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointMaps").finish_non_exhaustive()
    }
}

impl EndpointMaps {
    /// Writes all entries of an attachment, the endpoint before the addresses that lead to it.
    pub(super) fn write(&mut self, attachment: &Attachment) -> Result<(), MapError> {
        self.enforce(attachment)?;
        for &address in &attachment.addresses {
            self.addresses.update(&AddressKey::from(address), &Address::endpoint(attachment.ifindex))?;
        }
        Ok(())
    }

    /// Changes what an endpoint is enforced with, by one write, so that no packet sees a mixture. Limits are there before the
    /// endpoint says so, and gone after.
    pub(super) fn enforce(&mut self, attachment: &Attachment) -> Result<(), MapError> {
        let limits = limits(attachment);
        for (key, bytes_per_second) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
            // Programs keep the time in it: what is right is left alone.
            if self.limit(&key)? != Some(bytes_per_second) {
                self.bandwidth.update(&key, &Bandwidth { bytes_per_second, ..Bandwidth::default() })?;
            }
        }
        self.endpoints.update(&attachment.ifindex, &attachment.entry())?;
        for (key, _) in limits.into_iter().filter(|(_, limit)| *limit == 0) {
            self.bandwidth.delete(&key)?;
        }
        Ok(())
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
        self.endpoints.delete(&attachment.ifindex)?;
        limits(attachment).iter().try_for_each(|(key, _)| self.bandwidth.delete(key))
    }

    /// What is missing of an attachment's entries, in words. `current`: its addresses must lead to it.
    pub(super) fn examine(&self, attachment: &Attachment, current: bool) -> Result<Vec<String>, MapError> {
        let mut missing = Vec::new();
        if self.endpoints.get(&attachment.ifindex)? != Some(attachment.entry()) {
            missing.push(format!("map {} has no or another entry for {}", self.endpoints.name(), attachment.device));
        }
        for (key, limit) in limits(attachment) {
            if self.limit(&key)?.unwrap_or(0) != limit {
                let (map, device) = (self.bandwidth.name(), &attachment.device);
                missing.push(format!("map {map} has not {limit} bytes/s for {device}"));
            }
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
        let (mut endpoints, mut addresses, mut limits) = (Vec::new(), Vec::new(), Vec::new());
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
        self.bandwidth.dump(&mut |key, _| {
            if !keep(key.ifindex) {
                limits.push(key);
            }
        })?;
        for address in &addresses {
            self.addresses.delete(address)?;
        }
        for ifindex in &endpoints {
            self.endpoints.delete(ifindex)?;
        }
        for limit in &limits {
            self.bandwidth.delete(limit)?;
        }
        Ok(endpoints.len() + addresses.len() + limits.len())
    }

    fn limit(&self, key: &BandwidthKey) -> Result<Option<u64>, MapError> {
        Ok(self.bandwidth.get(key)?.map(|limit| limit.bytes_per_second))
    }

    fn leads_to(&self, address: IpAddr, ifindex: u32) -> Result<bool, MapError> {
        let entry = self.addresses.get(&AddressKey::from(address))?;
        Ok(entry.is_some_and(|entry| entry.kind == AddressKind::ENDPOINT && entry.ifindex == ifindex))
    }
}

/// Both directions' limits; 0: none.
fn limits(attachment: &Attachment) -> [(BandwidthKey, u64); 2] {
    let key = |direction| BandwidthKey { ifindex: attachment.ifindex, direction, ..BandwidthKey::default() };
    [(key(Direction::EGRESS), attachment.limits.egress), (key(Direction::INGRESS), attachment.limits.ingress)]
}
