//! A server and a client for the check of a cluster's connections (`axoneme connectivity`): this image is in every cluster, and
//! holds nothing else.

mod dns;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::config::ConfigError;

/// How long a server waits for a port that is taken.
const TAKEN: Duration = Duration::from_secs(30);
/// How long a client waits for each step.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the kubelet writes for a pod.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// No name is longer.
const NAME: usize = 256;

/// What the probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Tells its name to everybody, by TCP and UDP.
    Serve {
        /// The port.
        port: u16,
        /// What it says.
        name: String,
    },
    /// Asks a server for its name.
    Ask {
        /// Where.
        target: SocketAddr,
        /// By UDP.
        udp: bool,
        /// The connection is enough: who is there may not speak first.
        connect: bool,
    },
    /// Looks a name up, as programs in this pod would.
    Resolve {
        /// The name, whole or as it is known in the pod's namespace.
        name: String,
    },
}

impl Probe {
    /// Reads what follows the word: `serve PORT NAME`, `ask ADDRESS:PORT [--udp|--connect]` or `resolve NAME`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, ConfigError> {
        let words: Vec<String> = arguments.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let unknown = |word: &str| ConfigError::UnknownArgument(word.to_owned());
        match words[..] {
            ["serve", port, name] => {
                let port = port.parse().map_err(|_| unknown(port))?;
                Ok(Self::Serve { port, name: name.to_owned() })
            }
            ["ask", target, ref flags @ ..] => {
                if let Some(flag) = flags.iter().find(|flag| !["--udp", "--connect"].contains(*flag)) {
                    return Err(unknown(flag));
                }
                let target = target.parse().map_err(|_| unknown(target))?;
                Ok(Self::Ask { target, udp: flags.contains(&"--udp"), connect: flags.contains(&"--connect") })
            }
            ["resolve", name] => Ok(Self::Resolve { name: name.to_owned() }),
            _ => Err(unknown("probe")),
        }
    }

    /// Serves for ever, or writes the name of who was asked, or a name's addresses line by line, to standard output.
    ///
    /// # Errors
    /// When the port is taken, or nobody answers.
    pub fn run(&self) -> io::Result<()> {
        match self {
            Self::Serve { port, name } => serve(*port, name),
            Self::Ask { target, connect: true, .. } => TcpStream::connect_timeout(target, PATIENCE).map(drop),
            Self::Ask { target, udp, .. } => {
                let name = if *udp { ask_udp(*target)? } else { ask_tcp(*target)? };
                println!("{}", name.trim());
                Ok(())
            }
            Self::Resolve { name } => {
                let resolver = dns::Resolver::parse(&fs::read_to_string(RESOLV_CONF)?);
                resolver.lookup(name).map_err(io::Error::other)?.iter().for_each(|address| println!("{address}"));
                Ok(())
            }
        }
    }
}

/// Both families at once; without IPv6, the other one alone. On a host's network, the server of an earlier check may take a moment to
/// end when its pod is gone already.
fn either<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let address = |ip: IpAddr| SocketAddr::new(ip, port);
    let deadline = Instant::now() + TAKEN;
    loop {
        let bound =
            bind(address(Ipv6Addr::UNSPECIFIED.into())).or_else(|_| bind(address(Ipv4Addr::UNSPECIFIED.into())));
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            bound => return bound,
        }
    }
}

fn serve(port: u16, name: &str) -> io::Result<()> {
    let (tcp, udp) = (either(port, TcpListener::bind)?, either(port, UdpSocket::bind)?);
    let line = format!("{name}\n");
    let answer = line.clone();
    std::thread::spawn(move || {
        let mut question = [0; NAME];
        while let Ok((_, from)) = udp.recv_from(&mut question) {
            // Who does not hear asks again.
            let _ = udp.send_to(answer.as_bytes(), from);
        }
    });
    for stream in tcp.incoming() {
        // Who has hung up needs no name.
        let _ = stream.and_then(|mut stream| stream.write_all(line.as_bytes()));
    }
    Ok(())
}

fn ask_tcp(target: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut name = String::new();
    stream.take(NAME as u64).read_to_string(&mut name)?;
    Ok(name)
}

fn ask_udp(target: SocketAddr) -> io::Result<String> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who\n")?;
    let mut name = [0; NAME];
    let length = socket.recv(&mut name)?;
    Ok(String::from_utf8_lossy(&name[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let parse =
            |text: &str| Probe::parse(text.split_whitespace().map(str::to_owned)).map_err(|err| err.to_string());
        assert_eq!(parse("serve 8080 a"), Ok(Probe::Serve { port: 8080, name: "a".into() }));
        let target = "[fd00::1]:80".parse().unwrap();
        assert_eq!(parse("ask [fd00::1]:80 --udp"), Ok(Probe::Ask { target, udp: true, connect: false }));
        assert_eq!(parse("resolve web"), Ok(Probe::Resolve { name: "web".into() }));
        assert!(parse("ask web:80").is_err() && parse("ask 10.0.0.1:80 --sctp").is_err() && parse("").is_err());
    }

    #[test]
    fn a_server_tells_its_name_when_the_one_before_it_has_ended() {
        let before = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        let free = before.local_addr().unwrap().port();
        std::thread::spawn(move || serve(free, "somebody"));
        let target = SocketAddr::from(([127, 0, 0, 1], free));
        std::thread::sleep(Duration::from_millis(300));
        drop(before);
        let start = Instant::now();
        while ask_tcp(target).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(
            (ask_tcp(target).unwrap().as_str(), ask_udp(target).unwrap().as_str()),
            ("somebody\n", "somebody\n")
        );
        assert!(ask_tcp(SocketAddr::from(([127, 0, 0, 1], 1))).is_err());
    }
}
