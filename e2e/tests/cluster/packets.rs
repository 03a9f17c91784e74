//! Packets that are not like most: too long for the wire, or in pieces.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use axoneme_e2e::reach::{PATIENCE, inside};

use crate::lab::{Lab, Server, eventually};

/// A port that no server of this lab has.
const FREE: u16 = 9100;

fn any(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn udp(network: &File, like: IpAddr, port: u16) -> UdpSocket {
    let socket = inside(network, || UdpSocket::bind((any(like), port))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends `length` bytes by UDP from one pod to the other and back; whether all of them came.
fn echoes(from: &Server, to: &Server, target: IpAddr, length: usize) -> bool {
    let server = udp(&to.network, target, FREE);
    let client = udp(&from.network, target, 0);
    let sent: Vec<u8> = (0..length).map(|n| n as u8).collect();
    client.send_to(&sent, (target, FREE)).unwrap();
    let mut buffer = vec![0; length + 1];
    let Ok((came, sender)) = server.recv_from(&mut buffer) else { return false };
    server.send_to(&buffer[..came], sender).unwrap();
    let mut back = vec![0; length + 1];
    client.recv(&mut back).is_ok_and(|came| back[..came] == sent)
}

/// Sends `length` bytes over a new TCP connection, and gives how many arrived within some seconds.
fn stream(from: &Server, to: &Server, target: IpAddr, length: usize) -> usize {
    let address = SocketAddr::new(target, FREE);
    let listener = inside(&to.network, || TcpListener::bind((any(target), FREE))).unwrap().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let (mut buffer, mut came) = (vec![0; 1 << 16], 0);
            while let Ok(n @ 1..) = connection.read(&mut buffer) {
                came += n;
            }
            came
        });
        let mut connection = inside(&from.network, || TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
        connection.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = connection.write_all(&vec![7; length]);
        drop(connection);
        receiver.join().unwrap()
    })
}

#[test]
fn a_datagram_in_pieces_arrives_as_one() {
    let lab = Lab::open();
    let workload = lab.workload("packets-pieces");
    let pods = lab.servers(&workload, &[("a", 0), ("near", 0), ("far", 1)]);
    for to in &pods[1..] {
        for ip in &to.ips {
            // Twice, because the first of a flow goes another way.
            for _ in 0..2 {
                assert!(echoes(&pods[0], to, *ip, 4000), "4000 bytes to {} at {ip}", to.name);
            }
        }
    }
}

/// Changes the MTU of a node's uplink, and back when dropped.
struct Mtu<'a>(&'a Lab, usize);

impl<'a> Mtu<'a> {
    fn of(lab: &'a Lab, n: usize, mtu: u32) -> Self {
        lab.on_node(n, &format!("ip link set eth0 mtu {mtu}"));
        Self(lab, n)
    }
}

impl Drop for Mtu<'_> {
    fn drop(&mut self) {
        self.0.on_node(self.1, "ip link set eth0 mtu 1500");
    }
}

#[test]
fn what_is_too_long_for_a_smaller_uplink_finds_its_size() {
    let lab = Lab::open();
    let workload = lab.workload("packets-mtu");
    let pods = lab.servers(&workload, &[("a", 0), ("b", 1)]);
    let [a, b] = pods.as_slice() else { panic!("two pods") };
    for ip in &b.ips {
        assert_eq!(stream(a, b, *ip, 1 << 20), 1 << 20, "before, at {ip}");
    }
    // On both ends: what one end takes, the other must take.
    let _small = [Mtu::of(&lab, 0, 1400), Mtu::of(&lab, 1, 1400)];
    for ip in &b.ips {
        eventually(&format!("a stream to {ip} comes through"), || stream(a, b, *ip, 1 << 20) == 1 << 20);
        eventually(&format!("datagrams to {ip} come through in pieces"), || echoes(a, b, *ip, 1400));
    }
}
