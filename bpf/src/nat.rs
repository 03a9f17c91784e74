//! Mirror of `lib/nat.h`; keys are [`Tuple`](crate::inet::Tuple)s.

use crate::inet::{Inet, Port};
use crate::numbers::pod;

/// Value of `ax_nat`. Key direction egress: what the source becomes; ingress: what a reply's destination becomes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// CLOCK_MONOTONIC in ns. An entry past it does not exist.
    pub expires: u64,
    pub address: Inet,
    pub port: Port,
    pub reserved0: u16,
    pub reserved: [u32; 3],
}

pod!(Nat);
