//! Services at the sockets: this process moves into a cgroup that has the programs, and talks to itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axoneme_bpf::affinity::ClientKind;
use axoneme_bpf::programs::{self, Hook};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use common::kernel::Kernel;
use common::packet::{TCP, UDP};

const FRONTEND_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const FRONTEND_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10)), 80);

/// One test at a time is in its cgroup: the cgroup is the process's.
static TURN: Mutex<()> = Mutex::new(());

/// This process in a cgroup of its own, with all programs of sockets attached.
struct Sandbox {
    kernel: Kernel,
    cgroup: PathBuf,
    home: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// Where cgroup2 is mounted, and the cgroup of this process in it.
fn cgroup2() -> (PathBuf, PathBuf) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    let root = root.expect("cgroup2 is mounted somewhere");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup").to_owned();
    (root.clone(), root.join(own))
}

fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

impl Sandbox {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (root, home) = cgroup2();
        let cgroup = root.join(format!("axoneme-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let names: Vec<_> =
            programs::ALL.iter().filter(|(_, hook)| *hook == Hook::Cgroup).map(|(name, _)| *name).collect();
        let mut kernel = Kernel::with(&names);
        let directory = File::open(&cgroup).unwrap();
        for name in names {
            let program: &mut CgroupSockAddr = kernel.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.attach(&directory, CgroupAttachMode::Single).unwrap();
        }
        enter(&cgroup);
        Self { kernel, cgroup, home, _turn: turn }
    }

    fn service(&mut self, frontend: SocketAddr, protocol: u8, backends: &[SocketAddr]) {
        let id = u32::from(protocol) * 10 + u32::from(frontend.is_ipv6());
        self.kernel.service(frontend, protocol, id, 1, backends);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        enter(&self.home);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn loopback(frontend: SocketAddr) -> SocketAddr {
    let ip = if frontend.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
    SocketAddr::new(ip, 0)
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

privileged! {
    fn connecting_to_a_cluster_ip_reaches_a_backend_and_the_peer_is_the_cluster_ip() {
        let mut sandbox = Sandbox::new();
        for frontend in [FRONTEND_V4, FRONTEND_V6] {
            let listener = TcpListener::bind(loopback(frontend)).unwrap();
            sandbox.service(frontend, TCP, &[listener.local_addr().unwrap()]);
            let mut stream = TcpStream::connect(frontend).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), frontend);
            stream.write_all(b"x").unwrap();
            accepted.read_exact(&mut [0]).unwrap();
        }
        let reverses = sandbox.kernel.sock_reverses();
        assert_eq!(reverses.len(), 2);
        assert!(reverses.iter().all(|(key, _)| key.cookie != 0), "a socket can be found by its cookie");
    }
}

privileged! {
    fn an_ipv6_socket_reaches_an_ipv4_service() {
        let mut sandbox = Sandbox::new();
        let listener = TcpListener::bind(loopback(FRONTEND_V4)).unwrap();
        sandbox.service(FRONTEND_V4, TCP, &[listener.local_addr().unwrap()]);
        let stream = TcpStream::connect(mapped(FRONTEND_V4)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), mapped(FRONTEND_V4));
    }
}

privileged! {
    fn an_unconnected_udp_socket_hears_from_the_cluster_ip() {
        let mut sandbox = Sandbox::new();
        for frontend in [FRONTEND_V4, FRONTEND_V6] {
            let server = UdpSocket::bind(loopback(frontend)).unwrap();
            let client = UdpSocket::bind(loopback(frontend)).unwrap();
            for socket in [&server, &client] {
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            }
            sandbox.service(frontend, UDP, &[server.local_addr().unwrap()]);
            client.send_to(b"ping", frontend).unwrap();
            let mut buffer = [0; 8];
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"pong", from).unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (b"pong".as_slice(), frontend));
        }
    }
}

privileged! {
    fn a_connected_udp_socket_stays_with_its_backend() {
        let mut sandbox = Sandbox::new();
        for frontend in [FRONTEND_V4, FRONTEND_V6] {
            let servers: Vec<_> = (0..4).map(|_| UdpSocket::bind(loopback(frontend)).unwrap()).collect();
            let addresses: Vec<_> = servers.iter().map(|server| server.local_addr().unwrap()).collect();
            sandbox.service(frontend, UDP, &addresses);
            let client = UdpSocket::bind(loopback(frontend)).unwrap();
            client.connect(frontend).unwrap();
            assert_eq!(client.peer_addr().unwrap(), frontend);
            for _ in 0..8 {
                client.send(b"x").unwrap();
            }
            let mut heard = 0;
            for server in &servers {
                server.set_nonblocking(true).unwrap();
                let count = std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
                assert!(count == 0 || count == 8);
                heard += count;
            }
            assert_eq!(heard, 8);
        }
    }
}

privileged! {
    fn all_sockets_of_a_network_namespace_are_one_client() {
        let mut sandbox = Sandbox::new();
        for frontend in [FRONTEND_V4, FRONTEND_V6] {
            let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind(loopback(frontend)).unwrap()).collect();
            let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
            sandbox.service(frontend, TCP, &addresses);
            sandbox.kernel.set_affinity(frontend, TCP, 60);
            let connected: Vec<_> = (0..16).map(|_| TcpStream::connect(frontend).unwrap()).collect();
            let accepted = |listener: &TcpListener| {
                listener.set_nonblocking(true).unwrap();
                std::iter::from_fn(|| listener.accept().ok()).count()
            };
            let counts: Vec<usize> = listeners.iter().map(accepted).filter(|count| *count > 0).collect();
            assert_eq!(counts, [connected.len()]);
        }
        assert!(sandbox.kernel.affinities().iter().all(|(key, _)| key.kind == ClientKind::NETNS));
    }
}

privileged! {
    fn a_service_without_backends_refuses() {
        let mut sandbox = Sandbox::new();
        for frontend in [FRONTEND_V4, FRONTEND_V6] {
            sandbox.service(frontend, TCP, &[]);
            assert_eq!(TcpStream::connect(frontend).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            sandbox.service(frontend, UDP, &[]);
            let client = UdpSocket::bind(loopback(frontend)).unwrap();
            assert_eq!(client.send_to(b"x", frontend).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
}

privileged! {
    fn what_is_no_service_is_left_alone() {
        let mut sandbox = Sandbox::new();
        let listener = TcpListener::bind(loopback(FRONTEND_V4)).unwrap();
        let address = listener.local_addr().unwrap();
        // UDP only.
        sandbox.service(address, UDP, &[FRONTEND_V4]);
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert_eq!(sandbox.kernel.sock_reverses(), []);
    }
}
