//! Pods that lie about who they are: their root may put any frame on their device.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use axoneme_e2e::address::unspecified;
use axoneme_e2e::reach::inside;
use nix::ifaddrs::getifaddrs;

use crate::lab::{Lab, Server, dropped, eventually};

/// A port that no server of this lab has.
const PORT: u16 = 9300;

type Mac = [u8; 6];

/// Number and MAC of a pod's device.
fn device(network: &File) -> (usize, Mac) {
    let found = inside(network, || {
        let mut links = getifaddrs().unwrap().filter(|link| link.interface_name == "eth0");
        links.find_map(|link| link.address?.as_link_addr().map(|link| (link.ifindex(), link.addr().unwrap())))
    });
    found.unwrap().expect("a pod has eth0")
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A frame with a datagram from one address to another.
fn frame(mac: Mac, source: IpAddr, target: IpAddr, text: &[u8]) -> Vec<u8> {
    let (from, to, length) = (octets(source), octets(target), (8 + text.len() as u16).to_be_bytes());
    let mut udp = [&PORT.to_be_bytes(), &PORT.to_be_bytes(), &length, &[0, 0], text].concat();
    let sum = checksum(&[&from, &to, &[0, libc::IPPROTO_UDP as u8], &length, &udp]);
    udp[6..8].copy_from_slice(&sum);
    // Whose MAC it is for does not matter: the other end of the device has one listener.
    let mut frame = [&[2, 0, 0, 0, 0, 1], &mac[..]].concat();
    if source.is_ipv4() {
        let mut ip = vec![0x45, 0, 0, 20 + udp.len() as u8, 0, 0, 0, 0, 64, libc::IPPROTO_UDP as u8, 0, 0];
        ip.extend([from, to].concat());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum);
        frame.extend([&[0x08, 0x00], &ip[..], &udp].concat());
    } else {
        let ip = [&[0x60, 0, 0, 0], &length[..], &[libc::IPPROTO_UDP as u8, 64], &from, &to].concat();
        frame.extend([&[0x86, 0xdd], &ip[..], &udp].concat());
    }
    frame
}

/// Puts a frame on a pod's device, past its IP stack.
fn put(network: &File, frame: &[u8]) {
    let (index, _) = device(network);
    // SAFETY: the socket is checked, address and frame are valid for the lengths that are given.
    let sent = inside(network, || unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = index as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        let sent = libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size);
        libc::close(socket);
        sent
    });
    assert_eq!(sent.unwrap(), frame.len() as isize, "the kernel sends it");
}

/// A pod sends a lie to pods on its own and on another node, then the truth: the lie is dropped on its own node, for this
/// reason, and nothing but the truth arrives. `lie`: what it sends with instead of its own MAC and address.
fn lies(namespace: &str, reason: &str, lie: impl Fn(&Server, Mac, IpAddr) -> (Mac, IpAddr)) {
    let lab = Lab::open();
    let workload = lab.workload(namespace);
    let pods = lab.servers(&workload, &[("liar", 0), ("near", 0), ("far", 1)]);
    let (liar, near) = (&pods[0], &pods[1]);
    let (_, own) = device(&liar.network);
    for target in &pods[1..] {
        for ip in &target.ips {
            let listener = inside(&target.network, || UdpSocket::bind((unspecified(*ip), PORT))).unwrap().unwrap();
            listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let before = dropped(&lab, 0, reason);
            let truth = liar.like(*ip);
            let (mac, source) = lie(near, own, truth);
            put(&liar.network, &frame(mac, source, *ip, b"lie"));
            eventually(&format!("{reason} is counted"), || dropped(&lab, 0, reason) > before);
            put(&liar.network, &frame(own, truth, *ip, b"truth"));
            let mut buffer = [0; 64];
            let (length, sender) =
                listener.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{} at {ip}: {e}", target.name));
            assert_eq!(
                (&buffer[..length], sender),
                (&b"truth"[..], SocketAddr::new(truth, PORT)),
                "at {}",
                target.name
            );
        }
    }
}

#[test]
fn who_lies_about_its_address_is_dropped_and_counted() {
    lies("lies-address", "Invalid source ip", |near, mac, own| (mac, near.like(own)));
}

#[test]
fn who_lies_about_its_mac_is_dropped_and_counted() {
    lies("lies-mac", "Invalid source mac", |near, _, own| (device(&near.network).1, own));
}
