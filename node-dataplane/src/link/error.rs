//! Why the network could not be set up.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::reconcile::ops::DeviceError;

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make something that does not exist.
    Create,
    /// Change something that exists.
    Set,
    /// Remove.
    Delete,
    /// Read.
    List,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::List => "list",
        })
    }
}

/// Why the network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel refused a request.
    #[error("cannot {operation} {object}")]
    Netlink {
        /// What was asked.
        operation: Operation,
        /// Of what, by name.
        object: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A sysctl has not the value that is needed and cannot be set.
    #[error("sysctl {name} is {found} and must be {value}: set it on the host, or let the daemon write to /proc/sys")]
    Sysctl {
        /// Its name with dots.
        name: String,
        /// What it is.
        found: String,
        /// What is needed.
        value: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A device that should be there is not.
    #[error("there is no device {0}")]
    NoDevice(String),
    /// None of the node's addresses is on a device.
    #[error("no device has the node's address {}: does the node's InternalIP in Kubernetes match this host?", list(.0))]
    NoUplink(Vec<IpAddr>),
    /// Neither a node address nor a default route tells the uplink.
    #[error("the uplink is unknown: no address of this node is known yet and there is no default route")]
    NoDefaultRoute,
    /// A program that belongs on a device could not be attached.
    #[error("cannot attach program {program} to {device}")]
    Attach {
        /// Name of the program, as pinned.
        program: String,
        /// The device.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The pod's network namespace could not be entered.
    #[error("cannot enter the pod's network namespace")]
    Namespace(#[source] io::Error),
    /// The thread that worked in the pod's network namespace died.
    #[error("the thread in the pod's network namespace died")]
    Thread,
    /// Two addresses of one family, where one is possible.
    #[error("a pod has at most one address a family, not {}", list(.0))]
    Addresses(Vec<IpAddr>),
}

impl LinkError {
    /// For `map_err`: an error of rtnetlink, while doing `operation` with `object`.
    pub(super) fn netlink(operation: Operation, object: impl fmt::Display) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |error| Self::Netlink { operation, object: object.to_string(), source: io_error(error) }
    }

    /// Whether the kernel said that the object does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NoDevice(_) => true,
            Self::Netlink { source, .. } => {
                matches!(
                    source.raw_os_error(),
                    Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::ENXIO | libc::EADDRNOTAVAIL)
                )
            }
            _ => false,
        }
    }

    /// Whether the kernel said that the object exists already.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Netlink { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
    }
}

impl From<LinkError> for DeviceError {
    fn from(error: LinkError) -> Self {
        let what = error.to_string();
        let source = match error {
            LinkError::Socket(source)
            | LinkError::Netlink { source, .. }
            | LinkError::Sysctl { source, .. }
            | LinkError::Attach { source, .. }
            | LinkError::Namespace(source) => Some(source),
            _ => None,
        };
        Self { what, source }
    }
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        rtnetlink::Error::RequestFailed => io::Error::from(io::ErrorKind::BrokenPipe),
        other => io::Error::other(other.to_string()),
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
