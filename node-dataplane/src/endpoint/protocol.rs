//! What plugin and daemon say to each other: one JSON line each way over `/run/axoneme/cni.sock`.
//!
//! The plugin sends the pod's network namespace along as a file descriptor, so that the daemon needs no view of the host's
//! mounts. This module is all that both link; it knows no CNI version, which is the plugin's affair.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the daemon listens.
pub const SOCKET: &str = "/run/axoneme/cni.sock";
/// Where the daemon keeps attachments; the plugin looks there when the daemon is away.
pub const ATTACHMENTS: &str = "/var/lib/axoneme/attachments";
/// Where the plugin leaves what the daemon was not there to detach. Gone with a reboot, like what it would detach.
pub const DEFERRED: &str = "/run/axoneme/deferred";
/// Longest line, in bytes: GC names all attachments of the node.
pub const MAX_LINE: usize = 1 << 20;

/// CNI's error codes (specification 1.1, "Error").
pub mod code {
    /// This version of the specification is not spoken, or has no such command.
    pub const VERSION: u32 = 1;
    /// A variable of the environment is missing or invalid.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// The configuration cannot be parsed.
    pub const DECODE: u32 = 6;
    /// The configuration makes no sense.
    pub const INVALID_CONFIG: u32 = 7;
    /// The same request may succeed later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: no ADD would succeed now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: no ADD would succeed now, and what is attached may be cut off.
    pub const LIMITED: u32 = 51;
    /// First of those that plugins choose: the kernel refused.
    pub const KERNEL: u32 = 100;
    /// CHECK found something missing.
    pub const BROKEN: u32 = 101;
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Command {
    /// Attach; answered with [`Response::Attached`].
    Add,
    /// Detach; the namespace may be gone.
    Del,
    /// Examine an attachment.
    Check,
    /// Whether ADD would be served.
    Status,
    /// Detach what the runtime does not know.
    Gc,
}

/// What the plugin sends, with the namespace's descriptor unless that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// `CNI_CONTAINERID`
    #[serde(default)]
    pub container_id: String,
    /// `CNI_IFNAME`
    #[serde(default)]
    pub interface: String,
    /// `CNI_NETNS`, for people.
    #[serde(default)]
    pub netns: String,
    /// `CNI_ARGS`
    #[serde(default)]
    pub args: String,
    /// Name of the network's configuration.
    #[serde(default)]
    pub network: String,
    /// ADD: another plugin has made the devices.
    #[serde(default)]
    pub chained: bool,
    /// Addresses of the pod's interface in `prevResult`. ADD after another plugin: the pod's. CHECK: what there should be.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// GC: what the runtime still knows. Nothing is removed without it.
    #[serde(default)]
    pub valid: Option<Vec<ValidAttachment>>,
}

impl Request {
    /// A request that names nothing yet.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            container_id: String::new(),
            interface: String::new(),
            netns: String::new(),
            args: String::new(),
            network: String::new(),
            chained: false,
            addresses: Vec::new(),
            valid: None,
        }
    }
}

/// An attachment that the runtime still knows, as `cni.dev/valid-attachments` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// ADD succeeded.
    Attached(Attached),
    /// Anything else succeeded.
    Done,
    /// It did not.
    Failed(Failure),
}

/// What a pod got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Name of the host side.
    pub host_interface: String,
    /// Its Ethernet address.
    pub host_mac: String,
    /// Name of the pod's side.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: String,
    /// MTU of both.
    pub mtu: u32,
    /// The pod's addresses.
    pub addresses: Vec<AttachedAddress>,
}

/// One address of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedAddress {
    /// The address, alone in its prefix.
    pub address: IpAddr,
    /// What the default route goes through.
    pub gateway: IpAddr,
}

/// Why it failed, as CNI reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One of [`code`].
    pub code: u32,
    /// What was wrong, and what to do.
    pub message: String,
    /// Causes.
    #[serde(default)]
    pub details: String,
}

/// Whether `text` may be a container id: it becomes part of a file's name.
#[must_use]
pub fn is_container_id(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= 200;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    fits && text.bytes().all(allowed) && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// Whether `text` may be the name of a device.
#[must_use]
pub fn is_interface(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    !text.is_empty() && text.len() <= 15 && text != "." && text != ".." && text.bytes().all(allowed)
}

/// Name of an attachment's file in [`ATTACHMENTS`].
#[must_use]
pub fn file_name(container_id: &str, interface: &str) -> String {
    format!("{container_id}-{interface}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        assert!(is_container_id("0123abc_.-"));
        for id in ["", "../x", ".hidden", "a/b", "-a", "a b"] {
            assert!(!is_container_id(id), "{id}");
        }
        assert!(is_interface("eth0"));
        for name in ["", "..", "a/b", "sixteen-letters-", "a b", "a:b"] {
            assert!(!is_interface(name), "{name}");
        }
    }

    #[test]
    fn lines_round_trip() {
        let request = Request {
            container_id: "c".into(),
            interface: "eth0".into(),
            netns: "/run/netns/x".into(),
            args: "K8S_POD_UID=1".into(),
            ..Request::new(Command::Add)
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(line.contains("\"ADD\"") && !line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
