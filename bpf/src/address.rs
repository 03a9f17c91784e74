//! Mirror of `lib/address.h`: who owns an address.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::inet::{Family, Inet};
use crate::numbers::{numbers, pod};

numbers! {
    /// What stands behind an address.
    AddressKind: u8 = "address_kind", "ADDRESS_" {
        WORLD = 0,
        /// A pod of this node: ifindex is its key in `ax_endpoints`, which alone says identity and MACs.
        ENDPOINT = 1,
        /// An address of this node (identity: host).
        HOST = 2,
        /// This node's own overlay address: what the host sends from towards other nodes' pods (identity: host).
        HOST_OVERLAY = 3,
        /// Another node's underlay address: the only valid outer source of tunnel packets (identity: remote-node).
        NODE = 4,
        /// Another node's overlay address (identity: remote-node).
        NODE_OVERLAY = 5,
        /// A pod of another node. In a prefix row: the pods of a node that are not listed one by one.
        POD = 6,
    }
}

numbers! {
    /// How a packet, or the tunnel's around it, gets to the node that owns an address.
    AddressPath: u16 = "address_path", "PATH_" {
        /// The host's routes know.
        ROUTED = 0,
        /// That node, which has the address `tunnel`, is a neighbour on the device `ifindex`.
        DIRECT = 1,
    }
}

/// Key of `ax_addresses`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressKey {
    pub address: Inet,
    pub family: Family,
    pub reserved: [u8; 3],
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self { address: address.into(), family: Family::of(address), reserved: [0; 3] }
    }
}

/// Key of `ax_cidrs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CidrKey {
    pub prefixlen: u32,
    pub family: Family,
    pub reserved: [u8; 3],
    pub address: Inet,
}

impl CidrKey {
    /// Bits before the address.
    pub const STATIC_BITS: u32 = 32;

    /// `length` is the prefix's length in bits; bits beyond it are cleared.
    pub fn new(address: IpAddr, length: u8) -> Self {
        Self {
            prefixlen: Self::STATIC_BITS + u32::from(length),
            family: Family::of(address),
            reserved: [0; 3],
            address: Inet::from(address).masked(length),
        }
    }
}

/// Value of `ax_addresses` and `ax_cidrs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Ignored for endpoints. `Identity::UNKNOWN`: only the any-row of its scope applies.
    pub identity: u32,
    pub kind: AddressKind,
    pub tunnel_family: Family,
    pub path: AddressPath,
    /// Endpoints: key in `ax_endpoints`. `AddressPath::DIRECT`: the uplink. Else 0.
    pub ifindex: u32,
    /// Underlay address of the node that owns it; for pods and overlay addresses of other nodes.
    pub tunnel: Inet,
    pub reserved: [u32; 3],
}

impl Address {
    /// A pod of this node behind the host-side veth `ifindex`.
    pub fn endpoint(ifindex: u32) -> Self {
        Self { kind: AddressKind::ENDPOINT, ifindex, ..Self::default() }
    }

    /// An address of this node's host.
    pub fn host() -> Self {
        Self { kind: AddressKind::HOST, identity: Identity::HOST.0, ..Self::default() }
    }

    /// This node's own overlay address.
    pub fn host_overlay() -> Self {
        Self { kind: AddressKind::HOST_OVERLAY, identity: Identity::HOST.0, ..Self::default() }
    }

    /// Another node's underlay address, or in `ax_cidrs` a prefix of such.
    pub fn node() -> Self {
        Self { kind: AddressKind::NODE, identity: Identity::REMOTE_NODE.0, ..Self::default() }
    }

    /// The overlay address of the node with the underlay address `tunnel`.
    pub fn node_overlay(tunnel: IpAddr) -> Self {
        Self::of_node_overlay().behind(tunnel)
    }

    /// The overlay address of a node to which only routes lead.
    pub fn of_node_overlay() -> Self {
        Self { kind: AddressKind::NODE_OVERLAY, identity: Identity::REMOTE_NODE.0, ..Self::default() }
    }

    /// A pod on the node with the underlay address `tunnel`, or in `ax_cidrs` that node's pods (identity 0: not listed).
    pub fn pod(identity: u32, tunnel: IpAddr) -> Self {
        Self::of_pod(identity).behind(tunnel)
    }

    /// A pod on a node to which only routes lead, or on none that is known.
    pub fn of_pod(identity: u32) -> Self {
        Self { kind: AddressKind::POD, identity, ..Self::default() }
    }

    /// The same, of a node that is a neighbour on the uplink `ifindex`.
    pub fn direct(self, ifindex: u32) -> Self {
        Self { path: AddressPath::DIRECT, ifindex, ..self }
    }

    /// The same, of the node with the underlay address `tunnel`.
    pub fn behind(self, tunnel: IpAddr) -> Self {
        Self { tunnel: tunnel.into(), tunnel_family: Family::of(tunnel), ..self }
    }
}

pod!(AddressKey, CidrKey, Address);
