//! Mirror of `lib/policy.h`: policy rows and verdicts.

use std::net::IpAddr;

use crate::inet::{Direction, Family, Inet, Port};
use crate::numbers::{flags, numbers, pod};

numbers! {
    /// What a row says in one tier.
    Action: u8 = "action", "ACTION_" {
        NONE = 0,
        ALLOW = 1,
        DENY = 2,
        /// This tier has no opinion, whatever its later rules say; the next tier decides.
        PASS = 3,
    }
}

/// Tiers of a verdict, by index.
pub const TIER_ADMIN: usize = 0;
/// See [`TIER_ADMIN`].
pub const TIER_NORMAL: usize = 1;
/// See [`TIER_ADMIN`].
pub const TIER_BASELINE: usize = 2;
/// How many tiers there are.
pub const TIERS: usize = 3;

/// The peer of a rule: an identity, the any-row of a scope, or a CIDR class.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePeer(pub u32);

impl RulePeer {
    /// Pods that are not listed by identity.
    pub const ANY_POD: Self = Self(0xF000_0001);
    /// Nodes that are not listed by identity.
    pub const ANY_NODE: Self = Self(0xF000_0002);
    /// The world, if it is not listed by identity.
    pub const ANY_WORLD: Self = Self(0xF000_0003);
    /// Marks class numbers.
    pub const CLASS: u32 = 0x8000_0000;

    /// A listed identity.
    pub const fn identity(identity: u32) -> Self {
        Self(identity)
    }

    /// A CIDR class, numbered from 1 within its slot.
    pub const fn class(class: u32) -> Self {
        Self(Self::CLASS | class)
    }
}

impl std::fmt::Debug for RulePeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::ANY_POD => f.write_str("any-pod"),
            Self::ANY_NODE => f.write_str("any-node"),
            Self::ANY_WORLD => f.write_str("any-world"),
            Self(peer) if peer & Self::CLASS != 0 => write!(f, "class {}", peer & !Self::CLASS),
            Self(peer) => write!(f, "identity {peer}"),
        }
    }
}

numbers! {
    /// What a policy enforces.
    PolicyFlags: u32 = "policy_flags", "POLICY_" {
        /// What no tier allows is denied.
        ENFORCE_INGRESS = 1 << 0,
        ENFORCE_EGRESS = 1 << 1,
        /// Some policies only audit: there are audited rows.
        AUDITS = 1 << 2,
        /// What no tier of the audited rows allows would be denied.
        AUDIT_INGRESS = 1 << 3,
        AUDIT_EGRESS = 1 << 4,
    }
}
flags!(PolicyFlags);

numbers! {
    /// Indexes into `ax_policies` that have a meaning.
    PolicyIndex: u32 = "policy_index", "POLICY_INDEX_" {
        /// Of endpoints of which no policy is known.
        CLOSED = 0,
        /// The node's own. Generation 0: it has none, and is open.
        HOST = 4095,
    }
}

/// Value of `ax_policies`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub slot: u32,
    pub flags: PolicyFlags,
    /// The policies that isolate the pod: what a drop without a matching rule is blamed on.
    pub ingress_cookie: u32,
    pub egress_cookie: u32,
    /// Drawn from `ax_generation`, never repeated. A cached verdict of another generation is void. 0: never written.
    pub generation: u32,
    /// The policies that would isolate the pod if those that only audit were enforced.
    pub audited_ingress_cookie: u32,
    pub audited_egress_cookie: u32,
    pub reserved: u32,
}

/// How precise a rule row is about protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RulePorts {
    /// Any protocol.
    Any,
    /// One protocol and the ports that share the first `bits` bits (0..=16) with `port`. Protocols without ports: bits 0.
    Prefix { protocol: u8, port: u16, bits: u8 },
}

/// Key of `ax_policy_rules`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PolicyRuleKey {
    pub prefixlen: u32,
    pub slot: u32,
    pub peer: RulePeer,
    pub direction: Direction,
    pub protocol: u8,
    pub port: Port,
}

impl PolicyRuleKey {
    /// Bits of slot, peer and direction.
    pub const ANY_PROTOCOL_BITS: u32 = 72;
    /// ... and protocol.
    pub const PROTOCOL_BITS: u32 = 80;
    /// ... and port.
    pub const FULL_BITS: u32 = 96;

    pub fn new(slot: u32, peer: RulePeer, direction: Direction, ports: RulePorts) -> Self {
        let (prefixlen, protocol, port) = match ports {
            RulePorts::Any => (Self::ANY_PROTOCOL_BITS, 0, 0),
            RulePorts::Prefix { protocol, port, bits } => {
                let bits = bits.min(16);
                let mask = u16::MAX.checked_shl(u32::from(16 - bits)).unwrap_or(0);
                (Self::PROTOCOL_BITS + u32::from(bits), protocol, port & mask)
            }
        };
        Self { prefixlen, slot, peer, direction, protocol, port: Port::new(port) }
    }
}

/// What a row says in one tier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierVerdict {
    /// Lower comes first.
    pub order: u32,
    /// The rule of a policy that made this row, for people.
    pub cookie: u32,
    pub action: Action,
    pub reserved0: u8,
    pub reserved1: u16,
}

/// Value of `ax_policy_rules`. The longest prefix is complete: wider rows of the same peer are merged into it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub tiers: [TierVerdict; TIERS],
    pub reserved: u32,
}

/// Key of `ax_policy_classes`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PolicyClassKey {
    pub prefixlen: u32,
    pub slot: u32,
    pub direction: Direction,
    pub family: Family,
    pub reserved: u16,
    pub address: Inet,
}

impl PolicyClassKey {
    /// Bits before the address.
    pub const STATIC_BITS: u32 = 64;

    /// `length` is the prefix's length in bits; bits beyond it are cleared.
    pub fn new(slot: u32, direction: Direction, address: IpAddr, length: u8) -> Self {
        Self {
            prefixlen: Self::STATIC_BITS + u32::from(length),
            slot,
            direction,
            family: Family::of(address),
            reserved: 0,
            address: Inet::from(address).masked(length),
        }
    }
}

/// Value of `ax_policy_classes`: class numbers without the mark; 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyClass {
    pub if_pod: u32,
    pub if_node: u32,
    pub if_world: u32,
    pub reserved: u32,
}

pod!(Policy, PolicyRuleKey, TierVerdict, Verdicts, PolicyClassKey, PolicyClass);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_prefix_clears_the_bits_beyond_it() {
        let key = |bits| {
            PolicyRuleKey::new(
                7,
                RulePeer::identity(9),
                Direction::INGRESS,
                RulePorts::Prefix { protocol: 6, port: 8085, bits },
            )
        };
        assert_eq!((key(16).port.get(), key(16).prefixlen), (8085, 96));
        assert_eq!((key(12).port.get(), key(12).prefixlen), (8080, 92));
        assert_eq!((key(0).port.get(), key(0).prefixlen), (0, 80));
    }
}
