//! Looks a name up as programs in a pod do: by the pod's `/etc/resolv.conf`, with its search list, over UDP (RFC 1035).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 53;
/// The longest answer without an extension; servers cut longer ones.
const ANSWER: usize = 512;
/// Records with addresses.
const KINDS: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

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
        code: u16,
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
        let no_name = || LookupError::NoName(name.to_owned());
        let name = Name::from_ascii(name).ok().filter(|name| !name.is_root()).ok_or_else(no_name)?;
        let mut last = LookupError::NoServer;
        for server in &self.servers {
            let of_both = KINDS.iter().map(|kind| ask(*server, &name, *kind)).collect::<Result<Vec<_>, _>>();
            match of_both {
                Ok(addresses) => return Ok((*server, addresses.concat())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, LookupError> {
    let question = question(name, kind);
    let bytes = question.to_vec().map_err(|_| LookupError::NoName(name.to_string()))?;
    let io = |source: io::Error| {
        // What a socket says when its patience ends.
        let silent = source.kind() == io::ErrorKind::WouldBlock;
        LookupError::Io { server, source: if silent { io::ErrorKind::TimedOut.into() } else { source } }
    };
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(io)?;
    socket.connect(server).map_err(io)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    socket.send(&bytes).map_err(io)?;
    let mut answer = [0; ANSWER];
    let length = socket.recv(&mut answer).map_err(io)?;
    let answer = read(question.metadata.id, &answer[..length]).ok_or(LookupError::Malformed(server))?;
    match answer.metadata.response_code {
        // Other records lead to those with addresses.
        ResponseCode::NoError => Ok(answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()),
        ResponseCode::NXDomain => Ok(Vec::new()),
        code => Err(LookupError::Refused { server, name: name.to_string(), code: code.into() }),
    }
}

fn question(name: &Name, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    question
}

/// The answer to the question with this id. None: it is none.
fn read(id: u16, message: &[u8]) -> Option<Message> {
    let of_this = |answer: &Message| answer.metadata.id == id && answer.metadata.message_type == MessageType::Response;
    Message::from_vec(message).ok().filter(of_this)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, CNAME};
    use hickory_proto::rr::{RData, Record};
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

    fn record(data: RData) -> Record {
        Record::from_rdata(Name::from_ascii("web.shop.test").unwrap(), 30, data)
    }

    /// What a server says to a question. None: it makes no sense of it.
    fn answer(question: &Message) -> Option<Message> {
        let query = &question.queries[0];
        let alias = || record(RData::CNAME(CNAME(Name::from_ascii("x").unwrap())));
        let (code, records) = match (query.name().to_string().trim_end_matches('.'), query.query_type()) {
            ("web.shop.test", RecordType::A) => {
                (ResponseCode::NoError, vec![alias(), record(RData::A(A::new(192, 0, 2, 7)))])
            }
            ("web.shop.test", _) => (ResponseCode::NoError, vec![]),
            ("broken.shop.test", _) => (ResponseCode::ServFail, vec![]),
            ("odd.shop.test", _) => return None,
            _ => (ResponseCode::NXDomain, vec![]),
        };
        let mut answer = Message::error_msg(question.metadata.id, question.metadata.op_code, code);
        answer.add_queries(question.queries.clone()).add_answers(records);
        Some(answer)
    }

    /// A server that knows `web.shop.test` by IPv4, and answers for ever.
    fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; ANSWER];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = answer(&question).map_or(b"?".to_vec(), |answer| answer.to_vec().unwrap());
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

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let question = question(&Name::from_ascii("web.shop.test").unwrap(), RecordType::A);
        let (id, answer) = (question.metadata.id, answer(&question).unwrap().to_vec().unwrap());
        assert_eq!(read(id, &answer).unwrap().answers.len(), 2);
        assert!(read(id.wrapping_add(1), &answer).is_none(), "an answer to somebody else");
        assert!(read(id, &question.to_vec().unwrap()).is_none(), "the question itself");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_fail(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in any::<prop::sample::Index>(),
        ) {
            read(7, &bytes);
            let question = question(&Name::from_ascii("web.shop.test").unwrap(), RecordType::A);
            let mut almost = answer(&question).unwrap().to_vec().unwrap();
            let whole = almost.len();
            for (at, byte) in changes {
                almost[at.index(whole)] = byte;
            }
            almost.truncate(length.index(whole + 1));
            if let Some(answer) = read(question.metadata.id, &almost) {
                prop_assert!(answer.answers.len() <= almost.len());
            }
        }
    }
}
