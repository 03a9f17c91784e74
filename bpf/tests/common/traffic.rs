//! Processes that talk, in namespaces.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::netns::Netns;

/// How long something that should arrive may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing must arrive to count as dropped.
const SILENCE: Duration = Duration::from_millis(300);

fn any(family: SocketAddr, port: u16) -> SocketAddr {
    match family {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::from([0; 16]), port),
    }
}

/// Binds to a port. A fork elsewhere in this process may hold the socket of the exchange before for a moment longer.
pub fn listen<T>(netns: &Netns, bind: impl Fn() -> std::io::Result<T> + Send + Sync) -> T
where
    T: Send,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match netns.run(&bind) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => std::thread::yield_now(),
            bound => return bound.unwrap(),
        }
    }
}

/// What the two ends of an exchange saw.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Whom the server sees.
    pub client: SocketAddr,
    /// Whom the client hears from.
    pub server: SocketAddr,
}

/// One datagram there, one back. `port` is where the server listens, `destination` where the client sends to.
/// `None`: nothing arrived.
pub fn udp(client: &Netns, server: &Netns, port: u16, destination: SocketAddr) -> Option<Exchange> {
    match exchange(client, server, port, destination, 4) {
        Ok(exchange) => Some(exchange),
        Err(Lost::There) => None,
        Err(Lost::Back) => panic!("{destination}: the answer is lost"),
    }
}

/// As [`udp`], with this many bytes of payload, and some attempts: a busy machine may turn fragments around, or answer late.
pub fn datagrams(client: &Netns, server: &Netns, port: u16, destination: SocketAddr, size: usize) -> Option<Exchange> {
    (0..5).find_map(|_| exchange(client, server, port, destination, size).ok())
}

/// Which of two datagrams did not arrive.
enum Lost {
    There,
    Back,
}

fn exchange(client: &Netns, server: &Netns, port: u16, destination: SocketAddr, size: usize) -> Result<Exchange, Lost> {
    let sent: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
    let listener = listen(server, || UdpSocket::bind(any(destination, port)));
    let socket = client.run(|| UdpSocket::bind(any(destination, 0)).unwrap());
    listener.set_read_timeout(Some(SILENCE)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; size + 1];
    socket.send_to(&sent, destination).map_err(|_| Lost::There)?;
    let (length, seen_by_server) = listener.recv_from(&mut buffer).map_err(|_| Lost::There)?;
    assert!(buffer[..length] == sent, "{length} of {size} bytes arrived");
    listener.send_to(&sent, seen_by_server).unwrap();
    let (length, seen_by_client) = socket.recv_from(&mut buffer).map_err(|_| Lost::Back)?;
    assert!(buffer[..length] == sent, "{length} of {size} bytes came back");
    Ok(Exchange { client: seen_by_server, server: seen_by_client })
}

/// A connection over which `bytes` go there and come back, so that segmentation offload is at work.
pub fn tcp(client: &Netns, server: &Netns, port: u16, destination: SocketAddr, bytes: usize) -> Option<Exchange> {
    let listener = listen(server, || TcpListener::bind(any(destination, port)));
    let stream = match client.run(|| TcpStream::connect_timeout(&destination, SILENCE)) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::TimedOut => return None,
        Err(error) => panic!("{destination}: {error}"),
    };
    let seen_by_client = stream.peer_addr().unwrap();
    let (mut accepted, seen_by_server) = listener.accept().unwrap();
    for socket in [&accepted, &stream] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    let sent: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            let mut received = Vec::new();
            accepted.read_to_end(&mut received).unwrap();
            accepted.write_all(&received).unwrap();
            accepted.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).unwrap();
        assert!(back == sent, "{} of {bytes} bytes came back as they were", back.len());
    });
    Some(Exchange { client: seen_by_server, server: seen_by_client })
}
