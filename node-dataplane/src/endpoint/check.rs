//! CHECK.

use std::net::IpAddr;

use super::Endpoints;
use super::attachment::{Attachment, AttachmentKey, Phase};
use super::error::AttachError;
use crate::link::filter::Direction;
use crate::link::netns::Namespace;
use crate::link::pod;
use crate::link::route::Owner;
use crate::programs::attach::PodProgramFds;

impl Endpoints {
    /// Examines an attachment: devices, addresses, routes, programs and map entries. `expected`: the addresses that the runtime
    /// believes the pod to have, if it says.
    ///
    /// # Errors
    /// Naming what is missing.
    pub async fn check(
        &self,
        key: &AttachmentKey,
        expected: &[IpAddr],
        namespace: &Namespace,
    ) -> Result<(), AttachError> {
        let _container = self.inner.locks.lock(format!("container {}", key.container_id)).await;
        let known = self.state().store.get(key).cloned();
        let Some(attachment) = known.filter(|known| known.phase == Phase::Attached) else {
            return Err(AttachError::NotAttached(key.clone()));
        };
        let mut missing = self.missing(&attachment, namespace).await?;
        let strangers = expected.iter().filter(|address| !attachment.addresses.contains(address));
        missing.extend(strangers.map(|address| format!("{address} of prevResult is not the pod's")));
        match missing {
            missing if missing.is_empty() => Ok(()),
            missing => Err(AttachError::Broken { key: key.clone(), missing }),
        }
    }

    /// What an attachment lacks, in words; empty when nothing.
    pub(super) async fn missing(
        &self,
        attachment: &Attachment,
        namespace: &Namespace,
    ) -> Result<Vec<String>, AttachError> {
        let links = &self.inner.links;
        let Some(device) = links.device(&attachment.device).await? else {
            return Ok(vec![format!("there is no device {}", attachment.device)]);
        };
        let mut missing = Vec::new();
        if device.index != attachment.ifindex {
            missing.push(format!("device {} is another one than at ADD", attachment.device));
        }
        if !device.up {
            missing.push(format!("device {} is down", attachment.device));
        }
        let (from_pod, to_pod) =
            PodProgramFds::open(&self.inner.paths).and_then(|fds| fds.ids()).map_err(AttachError::Programs)?;
        for (direction, id) in [(Direction::Ingress, from_pod), (Direction::Egress, to_pod)] {
            if links.filter(device.index, direction).await? != Some(id) {
                missing.push(format!("device {} lacks its program for {direction:?}", attachment.device));
            }
        }
        let current = self.is_current(attachment);
        missing.extend(self.state().maps.examine(attachment, current)?);
        if attachment.chained {
            if pod::device_mac(namespace, attachment.key.interface.clone()).await? != Some(attachment.pod_mac) {
                missing.push(format!("the pod's device {} is another one than at ADD", attachment.key.interface));
            }
            return Ok(missing);
        }
        let routes = links.routes(Owner::Pod).await?;
        for address in attachment.addresses.iter().filter(|_| current) {
            let leads_here = |route: &crate::link::route::RouteEntry| {
                route.destination.addr() == *address && route.device == Some(device.index)
            };
            if !routes.iter().any(leads_here) {
                missing.push(format!("there is no route to {address}"));
            }
        }
        missing.extend(pod::examine(namespace, attachment.inside()).await?);
        Ok(missing)
    }

    /// STATUS: whether an ADD would be served.
    ///
    /// # Errors
    /// When the data path is not there, or the node's network is not set up.
    pub async fn status(&self) -> Result<(), AttachError> {
        PodProgramFds::open(&self.inner.paths).map_err(AttachError::Unloaded)?;
        self.inner.pods.network().await.map_err(AttachError::Unready)
    }

    /// Whether no later attachment of the same pod has its addresses.
    pub(super) fn is_current(&self, attachment: &Attachment) -> bool {
        let state = self.state();
        !state.store.of_pod(&attachment.pod_uid).any(|other| other.sequence > attachment.sequence)
    }
}
