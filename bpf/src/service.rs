//! Mirror of `lib/service.h`.

use std::net::IpAddr;

use crate::inet::{Family, Inet, Port};
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// Properties of a service.
    ServiceFlags: u32 = "service_flags", "SERVICE_FLAGS_" {
        NONE = 0,
        /// Clients outside of the cluster may ask for it.
        OUTSIDE = 1 << 0,
        /// What they get stands apart, under a key of its own.
        APART = 1 << 1,
    }
}
flags!(ServiceFlags);

/// Key of `ax_services`: a frontend is one port of one protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    pub address: Inet,
    pub port: Port,
    /// [`APART`] is added for what only clients outside get.
    pub protocol: u8,
    pub family: Family,
}

/// A bit that no protocol with ports has.
const APART: u8 = 0x40;

impl ServiceKey {
    pub fn new(address: IpAddr, port: u16, protocol: u8) -> Self {
        Self { address: address.into(), port: Port::new(port), protocol, family: Family::of(address) }
    }

    /// Of what only clients outside get at this frontend.
    pub fn apart(self) -> Self {
        Self { protocol: self.protocol | APART, ..self }
    }

    /// IANA number of its protocol.
    pub fn transport(&self) -> u8 {
        self.protocol & !APART
    }

    /// Whether only clients outside get it.
    pub fn is_apart(&self) -> bool {
        self.protocol & APART != 0
    }
}

/// Value of `ax_services`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Never 0; shared by all frontends that have the same backends.
    pub id: u32,
    /// Backends 0..backends exist; 0 means that connections are refused.
    pub backends: u32,
    /// Differs after every change of the backends: UDP flows then look whether theirs still exists.
    pub revision: u32,
    pub flags: ServiceFlags,
    /// For how many seconds a client keeps its backend; 0: it does not.
    pub affinity: u32,
    pub reserved: [u32; 3],
}

/// Key of `ax_service_backends`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendKey {
    pub service: u32,
    pub index: u32,
}

/// Value of `ax_service_backends`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    pub address: Inet,
    pub port: Port,
    pub family: Family,
    pub reserved0: u8,
    pub reserved: [u32; 3],
}

impl Backend {
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self { address: address.into(), port: Port::new(port), family: Family::of(address), ..Self::default() }
    }
}

pod!(ServiceKey, Service, BackendKey, Backend);
