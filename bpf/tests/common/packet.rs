//! Packets: written with correct checksums, read with checksums verified.

use std::net::{IpAddr, SocketAddr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// The client's.
pub const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 10];
/// That of the device that test runs pretend, so that packets are addressed to it.
pub const DESTINATION_MAC: [u8; 6] = [0; 6];

const ETHERNET: usize = 14;

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u32 {
    if protocol == ICMP {
        return 0;
    }
    sum(&octets(source)) + sum(&octets(destination)) + u32::from(protocol) + length as u32
}

fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// Wraps a transport header and payload, whose checksum field is filled in.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, mut payload: Vec<u8>) -> Vec<u8> {
    if let Some(at) = checksum_offset(protocol) {
        let value = !fold(pseudo(source, destination, protocol, payload.len()) + sum(&payload));
        payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    let mut packet = [DESTINATION_MAC, SOURCE_MAC].concat();
    if source.is_ipv4() {
        packet.extend([0x08, 0x00]);
        let length = (20 + payload.len()) as u16;
        let mut header = vec![0x45, 0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        header.extend(octets(source));
        header.extend(octets(destination));
        let value = !fold(sum(&header));
        header[10..12].copy_from_slice(&value.to_be_bytes());
        packet.extend(header);
    } else {
        packet.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend(octets(source));
        packet.extend(octets(destination));
    }
    packet.extend(payload);
    packet
}

pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(b"data");
    ip(source.ip(), destination.ip(), TCP, segment)
}

pub fn udp(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    datagram(source, destination, b"data")
}

/// A UDP packet with this payload.
pub fn datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    ip(source.ip(), destination.ip(), UDP, datagram)
}

/// An echo request or reply.
pub fn echo(source: IpAddr, destination: IpAddr, id: u16, reply: bool) -> Vec<u8> {
    large_echo(source, destination, id, reply, b"ping")
}

/// An echo request or reply with this payload.
pub fn large_echo(source: IpAddr, destination: IpAddr, id: u16, reply: bool, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) = match (source.is_ipv4(), reply) {
        (true, false) => (ICMP, 8),
        (true, true) => (ICMP, 0),
        (false, false) => (ICMPV6, 128),
        (false, true) => (ICMPV6, 129),
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1]);
    message.extend(payload);
    ip(source, destination, protocol, message)
}

/// "Port unreachable" about a packet, from `source` to whoever sent it.
pub fn unreachable(source: IpAddr, about: &[u8]) -> Vec<u8> {
    let (kind, code) = if source.is_ipv4() { (3, 3) } else { (1, 4) };
    complaint(source, about, kind, code)
}

/// "Fragmentation needed" or "packet too big" about a packet, from `source` to whoever sent it.
pub fn too_big(source: IpAddr, about: &[u8]) -> Vec<u8> {
    let (kind, code) = if source.is_ipv4() { (3, 4) } else { (2, 0) };
    complaint(source, about, kind, code)
}

fn complaint(source: IpAddr, about: &[u8], kind: u8, code: u8) -> Vec<u8> {
    let seen = Seen::read(about);
    let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    let kept = about.len().min(ETHERNET + 48);
    message.extend(&about[ETHERNET..kept]);
    ip(source, seen.source.ip(), protocol, message)
}

/// What a packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub protocol: u8,
    pub ttl: u8,
    /// Port 0 for protocols without ports; ICMP echo: the id.
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Seen {
    /// Reads a packet and asserts that its checksums are right.
    pub fn read(packet: &[u8]) -> Self {
        let header = &packet[ETHERNET..];
        let (protocol, ttl, source, destination, payload): (_, _, IpAddr, IpAddr, _) = match packet[12..14] {
            [0x08, 0x00] => {
                assert_eq!(fold(sum(&header[..20])), 0xffff, "IPv4 header checksum");
                let at = |i| <[u8; 4]>::try_from(&header[i..i + 4]).unwrap();
                (header[9], header[8], at(12).into(), at(16).into(), &header[20..])
            }
            [0x86, 0xdd] => {
                let at = |i| <[u8; 16]>::try_from(&header[i..i + 16]).unwrap();
                (header[6], header[7], at(8).into(), at(24).into(), &header[40..])
            }
            ref other => panic!("not IP: {other:?}"),
        };
        let unchecked = protocol == UDP && payload[6..8] == [0, 0];
        if checksum_offset(protocol).is_some() && !unchecked {
            let total = pseudo(source, destination, protocol, payload.len()) + sum(payload);
            assert_eq!(fold(total), 0xffff, "transport checksum of {source} -> {destination}");
        }
        let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        let (source_port, destination_port) = match protocol {
            TCP | UDP => (port(0), port(2)),
            ICMP | ICMPV6 => (port(4), port(4)),
            _ => (0, 0),
        };
        Self {
            source_mac: packet[6..12].try_into().unwrap(),
            destination_mac: packet[..6].try_into().unwrap(),
            protocol,
            ttl,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        }
    }

    /// Source and destination.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.source, self.destination)
    }
}

/// The packet with these bits for congestion.
pub fn with_ecn(mut packet: Vec<u8>, ecn: u8) -> Vec<u8> {
    if packet[12] == 0x08 {
        let sum = !u16::from_be_bytes([packet[24], packet[25]]);
        packet[15] = ecn;
        packet[24..26].copy_from_slice(&(!fold(u32::from(sum) + u32::from(ecn))).to_be_bytes());
    } else {
        packet[15] = ecn << 4;
    }
    packet
}

/// The packet with its UDP checksum switched off.
pub fn without_udp_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let at = ETHERNET + if packet[12] == 0x08 { 20 } else { 40 } + 6;
    packet[at..at + 2].fill(0);
    packet
}

/// Source and destination of the packet that an ICMP error quotes; an echo's id stands for both ports.
pub fn quoted(error: &[u8]) -> (SocketAddr, SocketAddr) {
    let v4 = error[12] == 0x08;
    let inner = &error[ETHERNET + if v4 { 20 } else { 40 } + 8..];
    let (source, destination, protocol, l4): (IpAddr, IpAddr, _, _) = if v4 {
        assert_eq!(fold(sum(&inner[..20])), 0xffff, "checksum of the quoted IPv4 header");
        let at = |i| <[u8; 4]>::try_from(&inner[i..i + 4]).unwrap();
        (at(12).into(), at(16).into(), inner[9], &inner[20..])
    } else {
        let at = |i| <[u8; 16]>::try_from(&inner[i..i + 16]).unwrap();
        (at(8).into(), at(24).into(), inner[6], &inner[40..])
    };
    let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    let (first, second) = if matches!(protocol, ICMP | ICMPV6) { (port(4), port(4)) } else { (port(0), port(2)) };
    (SocketAddr::new(source, first), SocketAddr::new(destination, second))
}

/// A packet in two fragments, the first with `kept` bytes of payload, a multiple of 8.
pub fn fragments(packet: &[u8], id: u32, kept: usize) -> [Vec<u8>; 2] {
    assert_eq!(kept % 8, 0);
    let v4 = packet[12] == 0x08;
    let start = ETHERNET + if v4 { 20 } else { 40 };
    let payload = &packet[start..];
    [(0, &payload[..kept], true), (kept, &payload[kept..], false)].map(|(offset, part, more)| {
        let mut fragment = packet[..start].to_vec();
        if v4 {
            fragment[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            fragment[18..20].copy_from_slice(&(id as u16).to_be_bytes());
            fragment[20..22].copy_from_slice(&((offset as u16 / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
            seal_ipv4(&mut fragment[ETHERNET..start]);
        } else {
            fragment[18..20].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut fragment[20], 44);
            fragment.extend([next, 0]);
            fragment.extend((offset as u16 | u16::from(more)).to_be_bytes());
            fragment.extend(id.to_be_bytes());
        }
        fragment.extend(part);
        fragment
    })
}

/// The packet that two fragments are parts of.
pub fn reassembled(fragments: &[Vec<u8>; 2]) -> Vec<u8> {
    let [first, later] = fragments;
    if first[12] == 0x08 {
        for fragment in fragments {
            assert_eq!(fold(sum(&fragment[ETHERNET..ETHERNET + 20])), 0xffff, "IPv4 header checksum");
        }
        assert_eq!(first[26..34], later[26..34], "addresses");
        let mut whole = [first.as_slice(), &later[ETHERNET + 20..]].concat();
        let length = (whole.len() - ETHERNET) as u16;
        whole[16..18].copy_from_slice(&length.to_be_bytes());
        whole[20..22].fill(0);
        seal_ipv4(&mut whole[ETHERNET..ETHERNET + 20]);
        whole
    } else {
        assert_eq!(first[22..54], later[22..54], "addresses");
        let mut whole = [&first[..54], &first[62..], &later[62..]].concat();
        let length = (whole.len() - 54) as u16;
        whole[18..20].copy_from_slice(&length.to_be_bytes());
        whole[20] = first[54];
        whole
    }
}

fn seal_ipv4(header: &mut [u8]) {
    header[10..12].fill(0);
    let value = !fold(sum(header));
    header[10..12].copy_from_slice(&value.to_be_bytes());
}

/// The packet with another TTL.
pub fn with_ttl(mut packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    if packet[12] == 0x08 {
        packet[22] = ttl;
        seal_ipv4(&mut packet[ETHERNET..ETHERNET + 20]);
    } else {
        packet[21] = ttl;
    }
    packet
}
