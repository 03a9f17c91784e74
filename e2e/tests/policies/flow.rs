//! A packet that opens a flow.

use std::net::{IpAddr, SocketAddr};

use axoneme_bpf::inet::{Direction, Tuple};

use crate::common::packet::{self, ICMP, ICMPV6, SYN, TCP, UDP};

const SCTP: u8 = 132;

/// Of all flows, or the id of the echo: each is forgotten before the next.
const SOURCE_PORT: u16 = 40_000;

/// From one end to another, which are of the same family.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// Of ICMP its type.
    pub port: u16,
}

impl Flow {
    /// Whether there are such packets: each family has an ICMP of its own.
    pub fn exists(&self) -> bool {
        match self.protocol {
            ICMP => self.source.is_ipv4(),
            ICMPV6 => self.source.is_ipv6(),
            _ => true,
        }
    }

    /// Its first packet.
    pub fn packet(&self) -> Vec<u8> {
        let &Self { source, destination, protocol, port } = self;
        let ends = (SocketAddr::new(source, SOURCE_PORT), SocketAddr::new(destination, port));
        let [high, low] = SOURCE_PORT.to_be_bytes();
        match protocol {
            TCP => packet::tcp(ends.0, ends.1, SYN),
            UDP => packet::udp(ends.0, ends.1),
            SCTP => {
                let [port_high, port_low] = port.to_be_bytes();
                // Tag and checksum, which nobody reads.
                packet::ip(source, destination, SCTP, vec![high, low, port_high, port_low, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            ICMP | ICMPV6 => packet::ip(source, destination, protocol, vec![port as u8, 0, 0, 0, high, low, 0, 1]),
            _ => packet::ip(source, destination, protocol, vec![0; 8]),
        }
    }

    /// Its key in conntrack.
    pub fn tuple(&self, direction: Direction) -> Tuple {
        let echo = matches!((self.protocol, self.port), (ICMP, 0 | 8) | (ICMPV6, 128 | 129));
        let (from, to) = match self.protocol {
            TCP | UDP | SCTP => (SOURCE_PORT, self.port),
            ICMP | ICMPV6 if echo => (SOURCE_PORT, SOURCE_PORT),
            _ => (0, 0),
        };
        Tuple::new(direction, self.protocol, (self.source, from), (self.destination, to))
    }
}
