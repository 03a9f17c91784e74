//! Mirror of `lib/event.h`: what programs tell of single packets, through the ring buffer `ax_events`.

use crate::inet::{Direction, Family, Inet, Port};
use crate::metrics::Reason;
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// What an event tells.
    EventKind: u8 = "event_kind", "EVENT_" {
        DROP = 1,
        /// A flow begins because a rule allows it.
        ALLOW = 2,
        /// A packet passes, and policies that only audit would have dropped it for this reason.
        AUDIT = 3,
    }
}

numbers! {
    /// More of a packet that an event tells of.
    EventFlags: u8 = "event_flags", "EVENT_" {
        /// The packet answers the flow that was judged.
        REPLY = 1 << 0,
    }
}
flags!(EventFlags);

/// A record of `ax_events`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub reason: Reason,
    /// The endpoint's own: ingress for a packet towards it.
    pub direction: Direction,
    pub family: Family,
    /// The device whose program saw the packet.
    pub ifindex: u32,
    /// 0: unknown there.
    pub source_identity: u32,
    pub destination_identity: u32,
    /// The rule that decided, or the policy that isolates the endpoint; 0: no policy did.
    pub cookie: u32,
    /// Bytes on the wire, with Ethernet header.
    pub length: u32,
    pub source: Inet,
    pub destination: Inet,
    pub source_port: Port,
    pub destination_port: Port,
    pub protocol: u8,
    pub tcp_flags: u8,
    pub flags: EventFlags,
    pub reserved0: u8,
    /// Local endpoint whose policy was asked; 0: none.
    pub endpoint: u32,
    pub reserved: [u32; 3],
}

impl Event {
    /// Reads a record; `None` if it is shorter than an event. Longer records come from newer programs: the rest is ignored.
    pub fn read(record: &[u8]) -> Option<Self> {
        if record.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the record is long enough, alignment is not assumed, and every bit pattern is an event.
        Some(unsafe { record.as_ptr().cast::<Self>().read_unaligned() })
    }
}

pod!(Event);
