//! Chaining: another plugin has made a pod's devices and given it addresses; what it sends and gets is judged here.

use super::Endpoints;
use super::attachment::Attachment;
use super::error::AttachError;
use crate::link::device::Device;
use crate::link::netns::Namespace;
use crate::link::uplink::is_pod_device;
use crate::link::worker::Desk;
use crate::link::{LinkError, Mac, pod};
use crate::programs::attach::POD;

/// What cannot be chained after.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainError {
    /// The plugin before made no such device.
    #[error("the pod has no device {0}: this plugin comes after one that makes veths, such as bridge or ptp")]
    NoDevice(String),
    /// The device has no other end on this host.
    #[error("the pod's device {0} is no veth with its other end on this host")]
    NoVeth(String),
    /// The other end is one of ours.
    #[error("the other end of the pod's device {0} is attached already")]
    Taken(String),
    /// The plugin before gave the pod no address.
    #[error("prevResult has no address for the pod's device {0}")]
    NoAddress(String),
}

/// The devices of a chained pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub host: Device,
    pub pod_mac: Mac,
    pub mtu: u32,
}

impl Endpoints {
    /// Finds the host's end of a pod's veth.
    pub(super) async fn pair(&self, namespace: &Namespace, interface: &str) -> Result<Pair, AttachError> {
        let inside = pod::device(namespace, interface.to_owned()).await?;
        let inside = inside.ok_or_else(|| ChainError::NoDevice(interface.to_owned()))?;
        let not = || ChainError::NoVeth(interface.to_owned());
        let (Some(link), Some(pod_mac)) = (inside.link, inside.mac) else { return Err(not().into()) };
        // Numbers are those of other namespaces' devices, too: both ends must say so, and no other pod may have it.
        let host = self.inner.links.device_at(link).await?.filter(|host| host.link == Some(inside.index));
        let host = host.ok_or_else(not)?;
        if host.mac.is_none() || is_pod_device(&host.name) {
            return Err(ChainError::Taken(interface.to_owned()).into());
        }
        Ok(Pair { host, pod_mac, mtu: inside.mtu })
    }

    /// Leaves a chained pod's device to the plugin that has made it, as it was: without our programs, which would let nothing
    /// pass any more. A device that is gone, or by now another one, is let alone.
    pub(super) async fn release(&self, attachment: &Attachment) -> Result<(), LinkError> {
        let Attachment { device, ifindex, host_mac, .. } = attachment.clone();
        let release = async move |desk: &Desk| {
            let found = desk.links.device(&device).await?;
            if found.is_none_or(|found| found.index != ifindex || found.mac != Some(host_mac)) {
                return Ok(());
            }
            for (direction, name) in POD {
                if desk.links.filter_name(ifindex, direction).await?.as_deref() == Some(name) {
                    desk.links.delete_filter(ifindex, direction).await?;
                }
            }
            Ok(())
        };
        self.inner.removing.run(release).await
    }
}
