//! Mirror of `lib/conntrack.h`; keys are [`Tuple`](crate::inet::Tuple)s.

use crate::inet::{Family, Inet, Port};
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// State of a flow.
    CtFlags: u16 = "ct_flags", "CT_" {
        /// A packet came back.
        REPLIED = 1 << 0,
        /// TCP: the handshake is over.
        ESTABLISHED = 1 << 1,
        /// TCP: the initiator sent FIN; RST sets both.
        CLOSED_ORIGINAL = 1 << 2,
        /// TCP: the other end sent FIN; RST sets both.
        CLOSED_REPLY = 1 << 3,
        /// A pod reaches itself through a service: its source is replaced on the way.
        HAIRPIN = 1 << 4,
    }
}
flags!(CtFlags);

/// Value of `ax_ct_tcp` and `ax_ct_any`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ct {
    /// CLOCK_MONOTONIC in ns. An entry past it does not exist.
    pub expires: u64,
    pub packets: u64,
    pub bytes: u64,
    /// The policy generation by which the flow was allowed.
    pub generation: u32,
    /// The identity of the other end at that time.
    pub peer_identity: u32,
    /// Non-zero: the flow goes through this service.
    pub service: u32,
    /// Only in service entries: the revision at which the backend was last known to exist.
    pub service_revision: u32,
    /// Egress entry, and ingress entry of a client outside: the frontend, to be put back as the source of replies. Service entry: the
    /// backend.
    pub service_address: Inet,
    pub service_port: Port,
    pub flags: CtFlags,
    /// Ingress entry: the node through whose tunnel a packet came whose source is nobody's. Replies go back there.
    pub via: Inet,
    /// None: the host's routes know.
    pub via_family: Family,
    pub reserved: u8,
    /// Of a client outside. Ingress entry: the port that it has, to be put back. Service entry: by which its backend knows it.
    pub client_port: Port,
}

pod!(Ct);
