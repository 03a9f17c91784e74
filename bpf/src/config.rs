//! Mirror of `lib/config.h`.

use crate::inet::{Inet, Port};
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// How the node's network works.
    ConfigFlags: u32 = "config_flags", "CONFIG_" {
        /// Pod to pod across nodes: routed by the underlay when set, VXLAN when not.
        NATIVE_ROUTING = 1 << 0,
        /// Pods' connections to addresses outside the cluster leave with the node's address.
        MASQUERADE_IPV4 = 1 << 1,
        MASQUERADE_IPV6 = 1 << 2,
        /// `ax_no_masquerade` has entries.
        EXCLUSIONS = 1 << 3,
        /// `ax_uplinks` has entries.
        UPLINKS = 1 << 4,
        /// Flows that a policy's rule lets begin are told of.
        VERDICTS = 1 << 5,
    }
}
flags!(ConfigFlags);

/// Value of `ax_config[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub flags: ConfigFlags,
    pub tunnel_ifindex: u32,
    pub uplink_ifindex: u32,
    pub uplink_mtu: u32,
    pub tunnel_port: Port,
    /// Ports that masquerading may use, inclusive, host order. The host's own flows in this range are tracked as well.
    pub nat_port_min: u16,
    pub nat_port_max: u16,
    pub reserved0: u16,
    /// The node's addresses, by which the cluster knows it: tunnel packets leave with them, and masqueraded ones where the
    /// device has none of its own. Zero: none in this family.
    pub node_ipv4: Inet,
    pub node_ipv6: Inet,
    /// What fits through the way to other nodes' pods, without Ethernet header and before encapsulation. 0: not known yet.
    pub pod_mtu: u32,
    pub reserved: [u32; 7],
}

pod!(Config);
