//! Mirror of `lib/metrics.h`: counters and the reasons of drops.

use crate::inet::Direction;
use crate::numbers::{numbers, pod};

numbers! {
    /// Why a packet was counted. Where Cilium's flow API has a reason of the same meaning, its number is used.
    Reason: u8 = "reason", "REASON_" {
        FORWARDED = 0,
        /// No packet was lost, but the ring had no room to tell of one.
        EVENT_LOST = 1,
        /// No packet was lost, but policies that only audit would have dropped one.
        AUDITED = 2,
        INVALID_SOURCE_MAC = 130,
        INVALID_SOURCE_IP = 132,
        POLICY_DEFAULT_DENY = 133,
        INVALID_PACKET = 134,
        CT_INVALID_HEADER = 135,
        UNSUPPORTED_L3 = 139,
        WRITE_FAILED = 141,
        UNSUPPORTED_L4 = 142,
        NO_TUNNEL_KEY = 147,
        NO_ENDPOINT = 152,
        CT_NO_SPACE = 155,
        INVALID_EXTENSION_HEADER = 156,
        FRAG_UNSUPPORTED = 157,
        NO_SERVICE_BACKEND = 158,
        NO_TUNNEL_ENDPOINT = 160,
        NO_CONFIG = 165,
        NAT_NO_MAPPING = 167,
        NAT_UNSUPPORTED_PROTOCOL = 168,
        NO_ROUTE = 169,
        TUNNEL_FROM_POD = 170,
        INVALID_IDENTITY = 171,
        UNKNOWN_SENDER = 172,
        /// A later fragment of a datagram whose first one was not seen.
        FRAG_NOT_FOUND = 175,
        FORBIDDEN_ICMPV6 = 176,
        POLICY_DENY = 181,
        TTL_EXCEEDED = 196,
        V4_MAPPED_IPV6 = 224,
        NAT_NO_PORT = 225,
        BANDWIDTH_LIMIT = 226,
        /// A service's address, and a port that it does not have.
        NO_SERVICE = 227,
        /// Who asks from outside may only get backends of this node, and all are of others.
        NO_LOCAL_BACKEND = 228,
        /// For the way to a backend; whom it came from is told what fits.
        TOO_LONG = 229,
    }
}

impl Reason {
    /// Whether a packet was lost for this reason.
    pub fn is_drop(self) -> bool {
        ![Self::FORWARDED, Self::EVENT_LOST, Self::AUDITED].contains(&self)
    }
}

/// What an entry of `ax_metrics` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricsKey {
    pub reason: Reason,
    pub direction: Direction,
}

impl MetricsKey {
    /// All that programs count.
    pub fn all() -> impl Iterator<Item = Self> {
        let directions = [Direction::INGRESS, Direction::EGRESS];
        let of = move |reason| directions.into_iter().map(move |direction| Self { reason, direction });
        Reason::ALL.iter().flat_map(move |&(_, reason)| of(reason))
    }

    /// Index of its entry.
    pub fn index(self) -> u32 {
        u32::from(self.direction.0) << 8 | u32::from(self.reason.0)
    }
}

/// Entry of `ax_metrics`, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub packets: u64,
    pub bytes: u64,
}

pod!(Metrics);
