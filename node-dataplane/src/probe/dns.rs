//! Looks a name up as programs in a pod do: by the pod's `/etc/resolv.conf`, with its search list, over UDP (RFC 1035).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 53;
/// Of a message: id, flags, four counts.
const HEADER: usize = 12;
/// The longest label, and the longest answer without an extension; servers cut longer ones.
const LABEL: usize = 63;
const ANSWER: usize = 512;
/// `recursion desired`, in a question's flags, and `this is an answer`.
const RECURSE: u16 = 0x0100;
const IS_ANSWER: u16 = 0x8000;
const INTERNET: u16 = 1;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// Kinds of records.
const KINDS: [u16; 2] = [A, AAAA];
const A: u16 = 1;
const AAAA: u16 = 28;

/// Why a name has no addresses.
#[derive(Debug, Error)]
pub enum LookupError {
    /// resolv.conf has none.
    #[error("/etc/resolv.conf names no server")]
    NoServer,
    /// A label is empty or too long.
    #[error("{0:?} is no name")]
    NoName(String),
    /// Everybody who was asked says so.
    #[error("{server} knows no {name}")]
    Unknown {
        /// What was asked for, as it was given.
        name: String,
        /// Who was asked last.
        server: SocketAddr,
    },
    /// The server refuses, or has a problem of its own.
    #[error("{server} answers {name} with error {code}")]
    Refused {
        /// Who was asked.
        server: SocketAddr,
        /// For what.
        name: String,
        /// RCODE.
        code: u8,
    },
    /// It was no DNS message.
    #[error("{0} answers something that is not DNS")]
    Malformed(SocketAddr),
    /// Nobody answers.
    #[error("{server} does not answer DNS")]
    Io {
        /// Who was asked.
        server: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
}

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Who is asked, one after the other.
    pub servers: Vec<SocketAddr>,
    /// What is appended to names.
    pub search: Vec<String>,
    /// Names with fewer dots are looked for in `search` first.
    pub ndots: usize,
}

impl Resolver {
    /// Reads a `resolv.conf`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    resolver.servers.extend(words.filter_map(|word| Some(SocketAddr::new(word.parse().ok()?, PORT))));
                }
                Some("search") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = ndots.next_back().unwrap_or(resolver.ndots);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// When nobody knows it, or nobody answers.
    pub fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut unknown = None;
        for candidate in self.candidates(name) {
            let (server, addresses) = self.ask(&candidate)?;
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            unknown = Some(server);
        }
        let server = unknown.ok_or_else(|| LookupError::NoName(name.to_owned()))?;
        Err(LookupError::Unknown { name: name.to_owned(), server })
    }

    /// What is asked for, in this order.
    fn candidates(&self, name: &str) -> Vec<String> {
        let itself = name.trim_end_matches('.').to_owned();
        if name.ends_with('.') {
            return vec![itself];
        }
        let searched = self.search.iter().map(|domain| format!("{itself}.{}", domain.trim_end_matches('.')));
        if itself.matches('.').count() < self.ndots {
            searched.chain([itself.clone()]).collect()
        } else {
            [itself.clone()].into_iter().chain(searched).collect()
        }
    }

    /// Asks the first server that answers.
    fn ask(&self, name: &str) -> Result<(SocketAddr, Vec<IpAddr>), LookupError> {
        let mut last = LookupError::NoServer;
        for server in &self.servers {
            let of_both = KINDS.iter().map(|kind| ask(*server, name, *kind)).collect::<Result<Vec<_>, _>>();
            match of_both {
                Ok(addresses) => return Ok((*server, addresses.concat())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Vec<IpAddr>, LookupError> {
    // Told apart from late answers to others; nothing that anybody could gain from guessing depends on it.
    let id = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos() as u16);
    let question = question(id, name, kind).ok_or_else(|| LookupError::NoName(name.to_owned()))?;
    let io = |source: io::Error| {
        // What a socket says when its patience ends.
        let silent = source.kind() == io::ErrorKind::WouldBlock;
        LookupError::Io { server, source: if silent { io::ErrorKind::TimedOut.into() } else { source } }
    };
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(io)?;
    socket.connect(server).map_err(io)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    socket.send(&question).map_err(io)?;
    let mut answer = [0; ANSWER];
    let length = socket.recv(&mut answer).map_err(io)?;
    let (code, addresses) = read(id, &answer[..length]).ok_or(LookupError::Malformed(server))?;
    match code {
        NO_ERROR | NO_SUCH_NAME => Ok(addresses),
        code => Err(LookupError::Refused { server, name: name.to_owned(), code }),
    }
}

/// None: there is no such name.
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    for number in [id, RECURSE, 1, 0, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=LABEL as u8).contains(length))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    Some(message)
}

/// Result code and addresses of an answer to the question with this id. None: it is none.
fn read(id: u16, message: &[u8]) -> Option<(u8, Vec<IpAddr>)> {
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let flags = number(2)?;
    if number(0)? != id || flags & IS_ANSWER == 0 {
        return None;
    }
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        // Type, class, time to live, length.
        let record = after_name(message, at)?;
        let (kind, length) = (number(record)?, usize::from(number(record + 8)?));
        at = record + 10 + length;
        let data = message.get(record + 10..at)?;
        match kind {
            A => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            AAAA => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            // What leads to them.
            _ => {}
        }
    }
    Some((flags as u8 & 0xf, addresses))
}

/// Where a name ends: at an empty label, or where it refers to the rest elsewhere.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESOLV_CONF: &str = "# by the kubelet\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
        nameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5 timeout:1\n";

    #[test]
    fn the_pods_resolv_conf_counts() {
        let resolver = Resolver::parse(RESOLV_CONF);
        let servers = ["10.96.0.10:53", "[fd00::a]:53"].map(|server| server.parse().unwrap());
        assert_eq!((&resolver.servers[..], resolver.ndots), (&servers[..], 5));
        assert_eq!(
            resolver.candidates("web"),
            ["web.shop.svc.cluster.local", "web.svc.cluster.local", "web.cluster.local", "web"]
        );
        assert_eq!(resolver.candidates("web.shop.svc.cluster.local."), ["web.shop.svc.cluster.local"]);
        assert_eq!(Resolver::parse("search a").candidates("b.c"), ["b.c", "b.c.a"]);
        assert_eq!(Resolver::parse("").lookup("a").unwrap_err().to_string(), "/etc/resolv.conf names no server");
        assert_eq!(resolver.lookup("a..b").unwrap_err().to_string(), "\"a..b.shop.svc.cluster.local\" is no name");
    }

    /// An answer with the question, an alias, and an address that refers to its name.
    fn answer(question: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&(IS_ANSWER | RECURSE | u16::from(code)).to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, data) in records {
            message.extend([0xc0, HEADER as u8]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 30]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    /// A server that knows `web.shop.test` by IPv4, and answers for ever.
    fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; ANSWER];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..length];
                let asked_for =
                    |name: &str, kind| question[HEADER..] == super::question(0, name, kind).unwrap()[HEADER..];
                let answer = if asked_for("web.shop.test", A) {
                    answer(question, NO_ERROR, &[(5, &[1, b'x', 0]), (A, &[192, 0, 2, 7])])
                } else if asked_for("web.shop.test", AAAA) {
                    answer(question, NO_ERROR, &[])
                } else if asked_for("broken.shop.test", A) {
                    answer(question, 2, &[])
                } else if asked_for("odd.shop.test", A) {
                    b"?".to_vec()
                } else {
                    answer(question, NO_SUCH_NAME, &[])
                };
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_name_is_found_by_the_search_list() {
        let server = server();
        let search = ["else.test", "shop.test"].map(str::to_owned).to_vec();
        let resolver = Resolver { servers: vec![server], search, ndots: 5 };
        assert_eq!(resolver.lookup("web").unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        let says = |name: &str| resolver.lookup(name).unwrap_err().to_string();
        assert_eq!(says("nobody"), format!("{server} knows no nobody"));
        assert_eq!(says("broken"), format!("{server} answers broken.shop.test with error 2"));
        assert_eq!(says("odd"), format!("{server} answers something that is not DNS"));
    }

    #[test]
    fn the_next_server_is_asked_where_one_is_gone() {
        let gone = SocketAddr::from(([127, 0, 0, 1], 1));
        let search = vec!["shop.test".to_owned()];
        let mut resolver = Resolver { servers: vec![gone, server()], search, ndots: 5 };
        assert_eq!(resolver.lookup("web").unwrap().len(), 1);
        resolver.servers.truncate(1);
        assert!(matches!(resolver.lookup("web"), Err(LookupError::Io { server, .. }) if server == gone));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_fail(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in any::<prop::sample::Index>(),
        ) {
            read(7, &bytes);
            let whole = answer(&question(7, "web.shop.test", A).unwrap(), NO_ERROR, &[(A, &[192, 0, 2, 7])]);
            let mut almost = whole.clone();
            for (at, byte) in changes {
                let at = at.index(almost.len());
                almost[at] = byte;
            }
            almost.truncate(length.index(whole.len() + 1));
            if let Some((_, addresses)) = read(7, &almost) {
                prop_assert!(addresses.len() * 4 <= almost.len());
            }
        }
    }
}
