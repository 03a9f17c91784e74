//! Mirror of `lib/endpoint.h`.

use crate::inet::Inet;
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// Properties of an endpoint.
    EndpointFlags: u32 = "endpoint_flags", "ENDPOINT_" {
        NONE = 0,
        /// `ax_bandwidth` has a limit for what the pod sends.
        EGRESS_LIMITED = 1 << 0,
        /// `ax_bandwidth` has a limit for what the pod gets.
        INGRESS_LIMITED = 1 << 1,
        /// Another CNI plugin made the device: programs judge, its owner and the stack deliver.
        CHAINED = 1 << 2,
    }
}
flags!(EndpointFlags);

/// Value of `ax_endpoints`; the key is the ifindex of the host-side veth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub identity: u32,
    /// Index into `ax_policies`; 0 is the closed policy.
    pub policy: u32,
    /// Node-local number, as in CiliumEndpoint's status.
    pub id: u32,
    pub flags: EndpointFlags,
    /// Zero: the pod has no address in this family.
    pub ipv4: Inet,
    pub ipv6: Inet,
    pub pod_mac: [u8; 6],
    pub host_mac: [u8; 6],
    pub reserved: [u32; 5],
}

pod!(Endpoint);
