//! Netlink: the devices, addresses, routes, neighbours, filters and sysctls of a node and of its pods.
//!
//! Nothing outside this module sees rtnetlink, whose interface changes every few months. A [`Links`] works in the network
//! namespace in which it was connected; pods' namespaces are entered by a thread of their own, see [`netns`].
//!
//! Everything here is idempotent and compares before it writes, so that the state half may call it as often as it likes.

pub mod address;
pub mod device;
pub mod devices;
mod error;
pub mod filter;
pub mod mac;
pub mod monitor;
pub mod neighbour;
pub mod netns;
pub mod pod;
mod removal;
pub mod route;
mod source;
pub mod sysctl;
pub mod uplink;
pub mod veth;
pub mod vxlan;
pub mod worker;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

pub use error::{LinkError, Operation};
pub use mac::Mac;

/// Name of the VXLAN device.
pub const OVERLAY_DEVICE: &str = "axoneme_vxlan";
/// First letters of the host side of a pod's veth. Eleven hexadecimal digits follow.
pub const POD_DEVICE_PREFIX: &str = "axo";

/// A connection to the kernel's routing netlink in one network namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct Links {
    handle: rtnetlink::Handle,
    /// Held while something is listed: the kernel refuses to list two things at once on one socket.
    listing: Arc<tokio::sync::Mutex<()>>,
    /// The node's own addresses, at most one a family, as far as they are known.
    sources: Arc<Mutex<Vec<IpAddr>>>,
}

impl Links {
    /// Connects in the calling thread's network namespace. Its task runs on the current tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn connect() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default(), sources: Arc::default() })
    }

    /// Another connection, in the calling thread's network namespace, that knows the node as this one does.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub(crate) fn beside(&self) -> Result<Self, LinkError> {
        Ok(Self { sources: self.sources.clone(), ..Self::connect()? })
    }

    /// From which address the host sends to a pod's; none while the node's are not known, or it has none of the family.
    #[must_use]
    pub fn source(&self, pod: IpAddr) -> Option<IpAddr> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().copied().find(|source| source.is_ipv4() == pod.is_ipv4())
    }

    /// Says which addresses the host sends from to pods. They must be on its devices.
    pub fn set_sources(&self, sources: Vec<IpAddr>) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = sources;
    }
}
