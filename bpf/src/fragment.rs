//! Mirror of `lib/fragment.h`: ports of datagrams in fragments.

use crate::inet::{Family, Inet, Port};
use crate::numbers::pod;

/// Key of `ax_fragments`: a datagram, as its fragments name it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    pub source: Inet,
    pub destination: Inet,
    /// In network order; IPv4: the 16 bits come first.
    pub id: u32,
    pub protocol: u8,
    pub family: Family,
    pub reserved: u16,
}

/// Value of `ax_fragments`: what the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub source_port: Port,
    pub destination_port: Port,
    /// The programs' own.
    pub flags: u8,
    pub reserved: [u8; 3],
}

pod!(FragmentKey, Fragment);
