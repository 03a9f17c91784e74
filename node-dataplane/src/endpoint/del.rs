//! DEL, and the undoing of what was begun.

use axoneme_proto::address::to_bytes;
use axoneme_proto::nodesync::{Attached, Detached};

use super::Endpoints;
use super::attachment::{Attachment, AttachmentKey, Phase};
use super::error::AttachError;

impl Endpoints {
    /// Detaches a container; what is not attached is detached already.
    ///
    /// Addresses that another container of the same pod has by now stay with it.
    ///
    /// # Errors
    /// When the kernel or the disk refuses; the runtime asks again.
    pub async fn del(&self, key: &AttachmentKey) -> Result<(), AttachError> {
        let _container = self.inner.locks.lock(format!("container {}", key.container_id)).await;
        let known = self.state().store.get(key).cloned();
        let Some(known) = known else {
            return self.remove_device(&key.device()).await;
        };
        let _pod = self.inner.locks.lock(format!("pod {}", known.pod_uid)).await;
        match known.phase {
            // The operator was never told of it.
            Phase::Attaching => self.undo(&known).await,
            Phase::Attached | Phase::Detaching => self.detach(known).await,
        }
    }

    /// Detaches, and tells the operator when it was the pod's last attachment.
    pub(super) async fn detach(&self, attachment: Attachment) -> Result<(), AttachError> {
        let detaching = Attachment { phase: Phase::Detaching, ..attachment };
        self.state().store.put(detaching.clone())?;
        self.remove_from_kernel(&detaching).await?;
        let last = self.state().store.of_pod(&detaching.pod_uid).all(|other| other.key == detaching.key);
        if last {
            let report = Detached {
                pod_uid: detaching.pod_uid.clone(),
                container_id: detaching.key.container_id.clone(),
                addresses: detaching.addresses.iter().copied().map(to_bytes).collect(),
            };
            let reported = self.inner.reports.detached(report).await;
            reported.map_err(|source| AttachError::Report { key: detaching.key.clone(), source })?;
        }
        self.forget(&detaching)
    }

    /// Removes what an unfinished or broken attachment has made.
    pub(super) async fn undo(&self, attachment: &Attachment) -> Result<(), AttachError> {
        self.remove_from_kernel(attachment).await?;
        self.forget(attachment)
    }

    async fn remove_from_kernel(&self, attachment: &Attachment) -> Result<(), AttachError> {
        if attachment.boot_id == self.state().store.boot_id() {
            let mut attachment = attachment.clone();
            if attachment.ifindex == 0 && !attachment.chained {
                // Interrupted before it was written down; its entries may be there.
                let device = self.inner.links.device(&attachment.device).await?;
                attachment.ifindex = device.map_or(0, |device| device.index);
            }
            self.state().maps.remove(&attachment)?;
            if attachment.chained {
                self.release(&attachment).await?;
            } else {
                self.remove_device(&attachment.device).await?;
            }
        }
        Ok(())
    }

    /// Routes, neighbours, filters and the pod's side go with it.
    pub(super) async fn remove_device(&self, name: &str) -> Result<(), AttachError> {
        Ok(self.inner.removing.remove_device(name).await?)
    }

    fn forget(&self, attachment: &Attachment) -> Result<(), AttachError> {
        let mut state = self.state();
        state.store.remove(&attachment.key)?;
        for &address in &attachment.addresses {
            if attachment.from_reserve && !state.store.has_address(address) {
                state.reserve.free(address);
            }
        }
        Ok(())
    }

    pub(super) fn report_attached(&self, attachment: &Attachment) {
        self.inner.reports.attached(Attached {
            pod_uid: attachment.pod_uid.clone(),
            pod_namespace: attachment.namespace.clone(),
            pod_name: attachment.name.clone(),
            container_id: attachment.key.container_id.clone(),
            addresses: attachment.addresses.iter().copied().map(to_bytes).collect(),
            from_reserve: attachment.from_reserve,
            endpoint_id: attachment.endpoint_id,
            identity: attachment.identity,
        });
    }
}
