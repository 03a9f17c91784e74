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
pub mod neighbour;
pub mod netns;
pub mod pod;
pub mod route;
pub mod sysctl;
pub mod uplink;
pub mod veth;
pub mod vxlan;

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
}

impl Links {
    /// Connects in the calling thread's network namespace. Its task runs on the current tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn connect() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}
