//! Mirror of `lib/inet.h`: addresses and tuples.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::numbers::{numbers, pod};

numbers! {
    /// Which family an address is of.
    Family: u8 = "family", "FAMILY_" {
        NONE = 0,
        IPV4 = 4,
        IPV6 = 6,
    }
}

impl Family {
    /// Family of an address. An IPv4-mapped IPv6 address is IPv6 (and its packets are dropped).
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::IPV4,
            IpAddr::V6(_) => Self::IPV6,
        }
    }
}

numbers! {
    /// Direction of traffic, seen from the endpoint.
    Direction: u8 = "direction", "DIRECTION_" {
        NONE = 0,
        INGRESS = 1,
        EGRESS = 2,
        /// Only in conntrack keys: from a client to a service's frontend.
        SERVICE = 3,
        /// Only in policy keys: the rows of a direction as they were if policies that only audit were enforced.
        AUDITED_INGRESS = 4,
        AUDITED_EGRESS = 5,
    }
}

/// An address in network order; IPv4 occupies the first four bytes, the rest is zero. Its family stands beside it.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inet {
    pub bytes: [u8; 16],
}

impl Inet {
    /// No address.
    pub const ZERO: Self = Self { bytes: [0; 16] };

    /// Back to an address; `None` if the family is unknown.
    pub fn to_ip(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::IPV4 => {
                let [a, b, c, d, ..] = self.bytes;
                Some(Ipv4Addr::new(a, b, c, d).into())
            }
            Family::IPV6 => Some(Ipv6Addr::from(self.bytes).into()),
            _ => None,
        }
    }

    /// The address with all but the first `length` bits cleared.
    pub fn masked(mut self, length: u8) -> Self {
        for (i, byte) in self.bytes.iter_mut().enumerate() {
            let kept = usize::from(length).saturating_sub(i * 8).min(8);
            *byte &= (0xff00_u16 >> kept) as u8;
        }
        self
    }
}

impl From<IpAddr> for Inet {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Ipv4Addr> for Inet {
    fn from(address: Ipv4Addr) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address.octets());
        Self { bytes }
    }
}

impl From<Ipv6Addr> for Inet {
    fn from(address: Ipv6Addr) -> Self {
        Self { bytes: address.octets() }
    }
}

/// A port in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Port(pub u16);

impl Port {
    /// From host order.
    pub const fn new(port: u16) -> Self {
        Self(port.to_be())
    }

    /// In host order.
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A flow as its initiator sent it; key of conntrack and NAT. ICMP echo: both ports hold the id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: Inet,
    pub destination: Inet,
    pub source_port: Port,
    pub destination_port: Port,
    pub protocol: u8,
    pub family: Family,
    pub direction: Direction,
    pub reserved: u8,
}

impl Tuple {
    /// A flow from `source` to `destination`, which must be of the same family.
    pub fn new(direction: Direction, protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        Self {
            source: source.0.into(),
            destination: destination.0.into(),
            source_port: Port::new(source.1),
            destination_port: Port::new(destination.1),
            protocol,
            family: Family::of(source.0),
            direction,
            reserved: 0,
        }
    }
}

pod!(Inet, Tuple);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_to_the_kernel_and_back() {
        for text in ["10.1.2.3", "fd00::1"] {
            let Ok(ip) = text.parse::<IpAddr>() else { panic!("{text}") };
            assert_eq!(Inet::from(ip).to_ip(Family::of(ip)), Some(ip));
        }
    }

    #[test]
    fn masking_clears_what_is_beyond_the_prefix() {
        let inet = Inet { bytes: [0xff; 16] };
        assert_eq!(inet.masked(0), Inet::ZERO);
        assert_eq!(inet.masked(13).bytes[..3], [0xff, 0xf8, 0]);
        assert_eq!(inet.masked(128), inet);
    }
}
