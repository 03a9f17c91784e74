//! Mirror of `lib/sock.h`.

use crate::inet::{Family, Inet, Port};
use crate::numbers::pod;

/// Key of `ax_sock_reverse`: the backend as a socket sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SockReverseKey {
    /// The socket's cookie, as `SO_COOKIE` and sock_diag give it.
    pub cookie: u64,
    pub address: Inet,
    pub port: Port,
    pub protocol: u8,
    pub family: Family,
    pub reserved: u32,
}

/// Value of `ax_sock_reverse`: the frontend that the process asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockReverse {
    pub address: Inet,
    pub port: Port,
    pub reserved0: u16,
    pub service: u32,
    pub reserved: [u32; 2],
}

pod!(SockReverseKey, SockReverse);
