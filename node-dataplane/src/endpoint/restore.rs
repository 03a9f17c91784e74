//! What a start of the daemon makes of what the last one left.

use super::Endpoints;
use super::attachment::{Attachment, Phase};
use super::error::AttachError;
use crate::link::device::Device;
use crate::link::filter::Direction;
use crate::link::uplink::is_pod_device;
use crate::programs::attach::{POD, PodProgramFds};

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Attachments whose devices are there, told to the operator again.
    pub adopted: usize,
    /// Unfinished or outlived attachments that were removed.
    pub removed: usize,
    /// Attachments that could not be dealt with; they are tried again with their next ADD or DEL, or the next start.
    pub failed: usize,
    /// Attachments whose devices are gone: their pods are dead, and DEL will come.
    pub dead: usize,
}

impl Endpoints {
    /// Adopts the attachments that the last run left: completes what it was about to remove, undoes what it was about to make,
    /// writes map entries that are missing, and tells the operator of all that are attached. To be called once, before the
    /// CNI server runs. One bad attachment keeps no other from its due.
    pub async fn restore(&self) -> Restored {
        let mut restored = Restored::default();
        for attachment in self.attachments() {
            let key = attachment.key.clone();
            match self.restore_one(attachment).await {
                Ok(Fate::Adopted) => restored.adopted += 1,
                Ok(Fate::Removed) => restored.removed += 1,
                Ok(Fate::Dead) => restored.dead += 1,
                Err(error) => {
                    tracing::error!(%key, error = %super::protocol::Failure::from(&error).message, "cannot restore an attachment");
                    restored.failed += 1;
                }
            }
        }
        restored
    }

    async fn restore_one(&self, attachment: Attachment) -> Result<Fate, AttachError> {
        let rebooted = attachment.boot_id != self.state().store.boot_id();
        match attachment.phase {
            Phase::Attaching => {
                self.undo(&attachment).await?;
                Ok(Fate::Removed)
            }
            _ if rebooted => {
                self.detach(attachment).await?;
                Ok(Fate::Removed)
            }
            Phase::Detaching => {
                self.detach(attachment).await?;
                Ok(Fate::Removed)
            }
            Phase::Attached => match self.inner.links.device(&attachment.device).await? {
                Some(device) if device.index == attachment.ifindex => {
                    self.adopt(&attachment, &device).await?;
                    self.report_attached(&attachment);
                    Ok(Fate::Adopted)
                }
                _ => {
                    self.state().maps.remove(&attachment)?;
                    Ok(Fate::Dead)
                }
            },
        }
    }

    /// Makes good what may be missing around a device that is there: its entries after a map was made anew, its programs and
    /// routes after somebody took them off.
    async fn adopt(&self, attachment: &Attachment, device: &Device) -> Result<(), AttachError> {
        let current = self.is_current(attachment);
        {
            let mut state = self.state();
            // What is there was written by a run that knew more lately than the file: only what is missing is written.
            if state.maps.endpoints.get(&attachment.ifindex)?.is_none() {
                state.maps.enforce(attachment)?;
            }
            if current && !state.maps.examine(attachment, true)?.is_empty() {
                let entry = state.maps.endpoints.get(&attachment.ifindex)?;
                state.maps.write(attachment)?;
                if let Some(entry) = entry {
                    state.maps.endpoints.update(&attachment.ifindex, &entry)?;
                }
            }
        }
        let links = &self.inner.links;
        let programs = PodProgramFds::open(&self.inner.paths).map_err(AttachError::Programs)?;
        let (from_pod, to_pod) = programs.ids().map_err(AttachError::Programs)?;
        for (direction, name) in POD {
            let (id, fd) = match direction {
                Direction::Ingress => (from_pod, programs.as_programs().from_pod),
                Direction::Egress => (to_pod, programs.as_programs().to_pod),
            };
            if links.filter(device.index, direction).await? != Some(id) {
                links.ensure_clsact(device.index).await?;
                links.set_filter(device.index, direction, name, fd).await?;
            }
        }
        if current && !attachment.chained {
            links.set_pod_routes(device.index, attachment.pod_mac, &attachment.addresses).await?;
        }
        Ok(())
    }

    /// Removes map entries and pods' devices that belong to no attachment. To be called when the desired state is complete and
    /// [`Endpoints::restore`] is done. Returns how many.
    ///
    /// # Errors
    /// When the kernel refuses; it may be called again.
    pub async fn prune(&self) -> Result<usize, AttachError> {
        // Devices are listed first: one that an ADD makes meanwhile is not in this list, and its entries are kept below.
        let devices = self.inner.links.devices().await?;
        let mut pruned = 0;
        for device in devices.into_iter().filter(|device| is_pod_device(&device.name)) {
            if !self.attachments().iter().any(|attachment| attachment.device == device.name) {
                tracing::info!(device = device.name, "removing a pod's device that belongs to no attachment");
                self.inner.links.delete_device(device.index).await?;
                pruned += 1;
            }
        }
        let mut state = self.state();
        let kept: Vec<u32> = state.store.all().map(|attachment| attachment.ifindex).collect();
        pruned += state.maps.prune(|ifindex| kept.contains(&ifindex))?;
        Ok(pruned)
    }
}

enum Fate {
    Adopted,
    Removed,
    Dead,
}
