//! Ports as people write them.

use std::fmt;

use crate::compile::policy::{ICMP, ICMPV6, IGMP, PROTOCOLS, VRRP, icmp};

/// A protocol and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// IANA number.
    pub(super) protocol: u8,
    /// Of ICMP the message's type; 0 where a protocol has none.
    pub(super) number: u16,
}

impl Port {
    /// Like `80`, `53/UDP`, `8/ICMP`, `EchoRequest/ICMPv6` or `VRRP`. Of ICMP without a type, an echo request is meant.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let names = PROTOCOLS.map(|(name, _)| name).join(", ");
            format!("{text:?} is no port; write 80, 53/UDP or 8/ICMP; protocols are {names}")
        };
        let known =
            |text: &str| PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
        let (number, protocol) = match text.split_once('/') {
            Some((number, protocol)) => (Some(number), known(protocol).ok_or_else(wrong)?),
            None => match known(text) {
                Some(protocol) => (None, protocol),
                None => (Some(text), 6),
            },
        };
        let v6 = protocol == ICMPV6;
        let number = match (number, protocol) {
            (None, ICMP | ICMPV6) => icmp::number("EchoRequest", v6).map(u16::from),
            (Some(name), ICMP | ICMPV6) => name.parse::<u8>().ok().or_else(|| icmp::number(name, v6)).map(u16::from),
            (None, IGMP | VRRP) => Some(0),
            (None, _) | (Some(_), IGMP | VRRP) => None,
            (Some(number), _) => number.parse().ok().filter(|port| *port > 0),
        };
        number.map(|number| Self { protocol, number }).ok_or_else(wrong)
    }

    /// The only family that has this protocol, if there is one: whether it is IPv6.
    pub(super) fn family_v6(self) -> Option<bool> {
        match self.protocol {
            ICMP => Some(false),
            ICMPV6 => Some(true),
            _ => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        let port = |protocol, number| Ok(Port { protocol, number });
        assert_eq!(Port::parse("80"), port(6, 80));
        assert_eq!(Port::parse("53/udp"), port(17, 53));
        assert_eq!(Port::parse("8/ICMP"), port(1, 8));
        assert_eq!(Port::parse("0/ICMP"), port(1, 0));
        assert_eq!(Port::parse("EchoRequest/ICMPv6"), port(58, 128));
        assert_eq!(Port::parse("icmp"), port(1, 8));
        assert_eq!(Port::parse("VRRP"), port(112, 0));
        for wrong in ["", "0", "70000", "80/HTTP", "tcp", "256/ICMP", "8/VRRP", "/TCP"] {
            assert!(Port::parse(wrong).is_err(), "{wrong}");
        }
    }
}
