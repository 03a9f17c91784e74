//! What is known of one attachment, as it is kept on disk.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::conflist::NETWORK;
use super::protocol::{self, Request};
use crate::desired::pods::Limits;
use crate::link::pod::{PodSpec, gateway};
use crate::link::veth::VethSpec;
use crate::link::{Mac, POD_DEVICE_PREFIX};
use crate::reconcile::ops::Enforcement;

/// What CNI calls an attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`
    pub interface: String,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.interface)
    }
}

impl AttachmentKey {
    /// Name of the host side: the same whenever it is asked, so that a repeated ADD finds what an earlier one left.
    #[must_use]
    pub fn device(&self) -> String {
        let digits = format!("{:016x}", xxh3_64(self.to_string().as_bytes()));
        format!("{POD_DEVICE_PREFIX}{}", digits.get(..11).unwrap_or(&digits))
    }
}

/// The pod that ADD is for, as the kubelet names it in `CNI_ARGS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSandbox {
    /// Key of its endpoint row.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `CNI_ARGS` that do not name a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CNI_ARGS lacks {0}: this plugin attaches pods of Kubernetes only")]
pub struct NoPod(pub &'static str);

impl PodSandbox {
    /// Reads `K8S_POD_UID=...;K8S_POD_NAMESPACE=...;K8S_POD_NAME=...`; other arguments are none of ours.
    ///
    /// # Errors
    /// Naming the first one that is missing.
    pub fn parse(args: &str) -> Result<Self, NoPod> {
        let value = |name: &'static str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, value)| *key == name && !value.is_empty());
            found.map(|(_, value)| value.to_owned()).ok_or(NoPod(name))
        };
        Ok(Self { uid: value("K8S_POD_UID")?, namespace: value("K8S_POD_NAMESPACE")?, name: value("K8S_POD_NAME")? })
    }
}

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// ADD is at work; found at start, it is undone.
    Attaching,
    /// ADD has answered.
    Attached,
    /// DEL is at work; found at start, it is completed.
    Detaching,
}

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// What CNI calls it.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// How far it has come.
    pub phase: Phase,
    /// Of the kernel: another one means that devices and maps are gone.
    pub boot_id: String,
    /// Rises with every attachment of this node: the last one of a pod has its addresses.
    pub sequence: u64,
    /// Key of the pod's endpoint row.
    pub pod_uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Path of its network namespace on the host, for people.
    pub netns: String,
    /// Name of the network's configuration, to which GC is confined. Files of earlier versions: the only one there was.
    #[serde(default = "only_network")]
    pub network: String,
    /// Node-local number, as in CiliumEndpoint's status.
    pub endpoint_id: u32,
    /// Name of the host side.
    pub device: String,
    /// Index of the host side; 0 while it is not made.
    pub ifindex: u32,
    /// Ethernet address of the host side.
    pub host_mac: Mac,
    /// Ethernet address of the pod's side.
    pub pod_mac: Mac,
    /// MTU of both.
    pub mtu: u32,
    /// The pod's addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// What it is enforced with.
    pub identity: u32,
    /// Index into `ax_policies`.
    pub policy_index: u32,
    /// How fast it may send and get.
    #[serde(default)]
    pub limits: Limits,
    /// The node chose the addresses.
    pub from_reserve: bool,
    /// Another plugin made the devices and chose the addresses.
    #[serde(default)]
    pub chained: bool,
}

fn only_network() -> String {
    NETWORK.to_owned()
}

impl Attachment {
    /// The pair of devices that it has.
    #[must_use]
    pub fn veth(&self) -> VethSpec {
        VethSpec {
            host_name: self.device.clone(),
            pod_name: self.key.interface.clone(),
            host_mac: self.host_mac,
            pod_mac: self.pod_mac,
            mtu: self.mtu,
            alias: format!("axoneme {}/{}", self.namespace, self.name),
        }
    }

    /// The inside of its namespace.
    #[must_use]
    pub fn inside(&self) -> PodSpec {
        PodSpec {
            device: self.key.interface.clone(),
            addresses: self.addresses.clone(),
            gateway_mac: self.host_mac,
            mtu: self.mtu,
        }
    }

    /// What it is enforced with.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        Enforcement { identity: self.identity, policy_index: self.policy_index, limits: self.limits }
    }

    /// Its entry in `ax_endpoints`.
    #[must_use]
    pub fn entry(&self) -> Endpoint {
        let ipv4 = self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let ipv6 = self.addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        });
        let flag = |set: bool, flag| if set { flag } else { EndpointFlags::NONE };
        Endpoint {
            flags: flag(self.chained, EndpointFlags::CHAINED)
                | flag(self.limits.egress > 0, EndpointFlags::EGRESS_LIMITED)
                | flag(self.limits.ingress > 0, EndpointFlags::INGRESS_LIMITED),
            identity: self.identity,
            policy: self.policy_index,
            id: self.endpoint_id,
            ipv4: ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
            ipv6: ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED).into(),
            pod_mac: self.pod_mac.0,
            host_mac: self.host_mac.0,
            ..Endpoint::default()
        }
    }

    /// What the plugin is told.
    #[must_use]
    pub fn result(&self) -> protocol::Attached {
        let address = |&address: &IpAddr| protocol::AttachedAddress { address, gateway: gateway(address) };
        protocol::Attached {
            host_interface: self.device.clone(),
            host_mac: self.host_mac.to_string(),
            interface: self.key.interface.clone(),
            mac: self.pod_mac.to_string(),
            mtu: self.mtu,
            addresses: self.addresses.iter().map(address).collect(),
        }
    }
}

/// The key in a request, checked.
#[must_use]
pub fn key(request: &Request) -> Option<AttachmentKey> {
    let valid = protocol::is_container_id(&request.container_id) && protocol::is_interface(&request.interface);
    valid.then(|| AttachmentKey { container_id: request.container_id.clone(), interface: request.interface.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::uplink::is_pod_device;

    #[test]
    fn pods_are_named_by_the_kubelet() {
        let args =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=u1";
        let pod = PodSandbox { uid: "u1".into(), namespace: "shop".into(), name: "web-0".into() };
        assert_eq!(PodSandbox::parse(args), Ok(pod));
        assert_eq!(PodSandbox::parse("K8S_POD_UID=u1"), Err(NoPod("K8S_POD_NAMESPACE")));
        assert_eq!(PodSandbox::parse(""), Err(NoPod("K8S_POD_UID")));
    }

    #[test]
    fn the_host_side_is_named_by_container_and_interface() {
        let key = AttachmentKey { container_id: "c1".into(), interface: "eth0".into() };
        let other = AttachmentKey { interface: "eth1".into(), ..key.clone() };
        assert!(is_pod_device(&key.device()));
        assert_eq!(key.device(), key.clone().device());
        assert_ne!(key.device(), other.device());
    }
}
