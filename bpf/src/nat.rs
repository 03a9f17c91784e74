//! Mirror of `lib/nat.h`; keys are [`Tuple`](crate::inet::Tuple)s.

use crate::inet::{Inet, Port};
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// State of a translation.
    NatFlags: u16 = "nat_flags", "NAT_" {
        /// TCP: FIN or RST was seen.
        CLOSING = 1 << 0,
    }
}
flags!(NatFlags);

/// Value of `ax_nat`. Key direction egress: what the source becomes; ingress: what a reply's destination becomes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// CLOCK_MONOTONIC in ns. An entry past it does not exist.
    pub expires: u64,
    pub address: Inet,
    pub port: Port,
    pub flags: NatFlags,
    /// Key direction egress: the device that the flow left by when it was given its address.
    pub ifindex: u32,
    pub reserved: [u32; 2],
}

/// Value of `ax_no_masquerade`, whose keys are `CidrKey`s.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    pub reserved: u32,
}

pod!(Nat, Exclusion);
