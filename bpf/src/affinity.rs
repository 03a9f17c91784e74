//! Mirror of `lib/affinity.h`.

use crate::inet::{Family, Inet, Port};
use crate::numbers::{numbers, pod};

numbers! {
    /// By what a client is known.
    ClientKind: u8 = "client_kind", "CLIENT_" {
        ADDRESS = 0,
        NETNS = 1,
    }
}

/// Key of `ax_affinity`: a client of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    pub client: Inet,
    pub service: u32,
    pub family: Family,
    pub kind: ClientKind,
    pub reserved: u16,
}

/// Value of `ax_affinity`: the backend that it had.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// `CLOCK_MONOTONIC` in ns: when the client came last.
    pub used: u64,
    pub address: Inet,
    pub port: Port,
    pub reserved0: u16,
    /// A number that fell to it.
    pub index: u32,
}

pod!(AffinityKey, Affinity);
