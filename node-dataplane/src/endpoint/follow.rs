//! Attached pods follow their node's network: its MTU, its address as what the host sends from, and routes that somebody took.

use std::fs::File;
use std::time::Duration;

use tokio::time::timeout;

use super::Endpoints;
use super::attachment::{Attachment, AttachmentKey, Phase};
use super::error::AttachError;
use crate::link::netns::Namespace;
use crate::link::pod;
use crate::link::route::Owner;

/// Between tries of what failed.
const RETRY: Duration = Duration::from_secs(10);

impl Endpoints {
    /// Follows for as long as the daemon runs.
    pub async fn follow_network(self) {
        let mut told = self.inner.network.subscribe();
        let mut failed = false;
        loop {
            let changed = async { told.changed().await.is_ok() };
            // Time that passes is as good a reason as news.
            if timeout(if failed { RETRY } else { Duration::MAX }, changed).await == Ok(false) {
                return;
            }
            let pod_mtu = *told.borrow_and_update();
            failed = !self.follow_once(pod_mtu).await;
        }
    }

    /// Whether all is as it should be now.
    async fn follow_once(&self, pod_mtu: u32) -> bool {
        let routes = match self.inner.links.routes(Owner::Pod).await {
            Ok(routes) => routes,
            Err(error) => {
                tracing::warn!(%error, "routes to pods cannot be looked at");
                return false;
            }
        };
        let mut all = true;
        for attachment in self.attachments() {
            let route = |&address| self.inner.links.pod_route(attachment.ifindex, address);
            let routed = attachment.addresses.iter().all(|address| routes.contains(&route(address)));
            // The device of a chained pod is another plugin's to keep.
            let settled = attachment.chained || (routed && attachment.mtu == pod_mtu);
            if attachment.phase != Phase::Attached || settled {
                continue;
            }
            if let Err(error) = self.follow_one(&attachment.key, &attachment.pod_uid, pod_mtu).await {
                let error = super::protocol::Failure::from(&error).message;
                tracing::warn!(key = %attachment.key, error, "an attached pod does not follow the node's network yet");
                all = false;
            }
        }
        all
    }

    async fn follow_one(&self, key: &AttachmentKey, pod_uid: &str, pod_mtu: u32) -> Result<(), AttachError> {
        let _pod = self.inner.locks.lock(format!("pod {pod_uid}")).await;
        let known = self.state().store.get(key).cloned();
        let Some(attachment) = known.filter(|known| known.phase == Phase::Attached) else { return Ok(()) };
        let device = self.inner.links.device(&attachment.device).await?;
        let Some(device) = device.filter(|device| device.index == attachment.ifindex) else {
            // The pod is dead, and DEL will come.
            return Ok(());
        };
        if self.is_current(&attachment) {
            self.inner.links.set_pod_routes(device.index, attachment.pod_mac, &attachment.addresses).await?;
        }
        if attachment.mtu == pod_mtu {
            return Ok(());
        }
        let before = attachment.mtu;
        let attachment = Attachment { mtu: pod_mtu, ..attachment };
        // No end sends what the other would not take.
        if pod_mtu > before {
            self.inner.links.set_mtu(&device, pod_mtu).await?;
        }
        let file = File::open(&attachment.netns).map_err(|_| AttachError::NoNamespace(attachment.netns.clone()))?;
        let namespace = Namespace::new(file.into())
            .map_err(|source| AttachError::Namespace { path: attachment.netns.clone(), source })?;
        pod::set_mtu(&namespace, attachment.inside(), attachment.pod_mac).await?;
        self.inner.links.set_mtu(&device, pod_mtu).await?;
        tracing::info!(%key, before, pod_mtu, "MTU of an attached pod");
        let mut state = self.state();
        // It may have been relabelled meanwhile.
        if let Some(now) = state.store.get(key).cloned() {
            state.store.put(Attachment { mtu: pod_mtu, ..now })?;
        }
        Ok(())
    }
}
