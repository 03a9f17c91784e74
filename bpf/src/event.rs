//! Mirror of `lib/event.h`: what programs tell of single packets, through the ring buffer `ax_events`.

use crate::inet::{Direction, Family, Inet, Port};
use crate::metrics::Reason;
use crate::numbers::{numbers, pod};

numbers! {
    /// What an event tells.
    EventKind: u8 = "event_kind", "EVENT_" {
        DROP = 1,
    }
}

/// A record of `ax_events`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub reason: Reason,
    pub direction: Direction,
    pub family: Family,
    /// The device whose program dropped the packet.
    pub ifindex: u32,
    /// 0: unknown at the place of the drop.
    pub source_identity: u32,
    pub destination_identity: u32,
    /// The policy that decided; 0 unless the reason is a policy's.
    pub cookie: u32,
    /// Bytes on the wire, with Ethernet header.
    pub length: u32,
    pub source: Inet,
    pub destination: Inet,
    pub source_port: Port,
    pub destination_port: Port,
    pub protocol: u8,
    pub tcp_flags: u8,
    pub reserved0: u16,
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
