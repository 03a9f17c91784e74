//! What people say that a policy opens, as far as it is said so that it can be checked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::policy::PROTOCOLS;
use crate::object::Direction;

/// Names of services, and their ports: who says one opens it. A name alone does not say that no other port is opened.
const SERVICES: [(&str, u16); 22] = [
    ("http", 80),
    ("https", 443),
    ("tls", 443),
    ("dns", 53),
    ("ssh", 22),
    ("ntp", 123),
    ("smtp", 25),
    ("ldap", 389),
    ("ldaps", 636),
    ("syslog", 514),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("memcached", 11211),
    ("mongodb", 27017),
    ("amqp", 5672),
    ("kafka", 9092),
    ("etcd", 2379),
    ("etcd", 2380),
    ("kubelet", 10250),
];
const ALL: [&str; 3] = ["all", "any", "every"];
const EVERYTHING: [&str; 4] = ["everything", "anything", "unrestricted", "unlimited"];
const ANYBODY: [&str; 12] = [
    "everyone",
    "everybody",
    "anyone",
    "anybody",
    "anywhere",
    "everywhere",
    "internet",
    "world",
    "public",
    "outside",
    "external",
    "cluster",
];
const PORTS: [&str; 9] = ["port", "ports", "traffic", "protocol", "protocols", "connections", "packets", "tcp", "udp"];
const NAMESPACES: [&str; 3] = ["namespace", "namespaces", "ns"];
const BETWEEN: [&str; 6] = ["and", "or", "to", "through", "-", "&"];

/// Some ports: of one protocol (IANA number), or of any.
pub(super) type Spoken = (Option<u8>, u16, u16);

/// What is said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Ports by number.
    pub(super) ports: Vec<Spoken>,
    /// Ports by names of services.
    pub(super) services: Vec<Spoken>,
    /// Addresses.
    pub(super) nets: Vec<IpNet>,
    /// Words that follow or precede the word namespace.
    pub(super) namespaces: BTreeSet<String>,
    /// Keys and values.
    pub(super) labels: BTreeSet<(String, String)>,
    /// Only one direction is spoken of.
    pub(super) direction: Option<Direction>,
    /// All ports are.
    pub(super) all_ports: bool,
    /// Everybody is.
    pub(super) everybody: bool,
}

impl Said {
    /// What some texts say.
    pub(super) fn by<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut said = Self::default();
        let mut directions = BTreeSet::new();
        for text in texts {
            let words: Vec<&str> =
                text.split(|c: char| c.is_whitespace() || ",;()[]{}\"'`".contains(c)).map(trim).collect();
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            said.ports_in(&words);
            said.namespaces_in(&words);
            for (i, word) in words.iter().enumerate() {
                let lower = word.to_ascii_lowercase();
                said.word(word, &lower, words.get(i + 1).map(|next| next.to_ascii_lowercase()).as_deref());
                directions.extend(match &*lower {
                    "ingress" | "inbound" | "incoming" => Some(Direction::Ingress),
                    "egress" | "outbound" | "outgoing" => Some(Direction::Egress),
                    _ => None,
                });
            }
        }
        said.direction = directions.first().copied().filter(|_| directions.len() == 1);
        said
    }

    fn word(&mut self, word: &str, lower: &str, next: Option<&str>) {
        let all = ALL.contains(&lower);
        let of_ports = next.is_some_and(|next| PORTS.contains(&next));
        self.all_ports |= (all && of_ports) || EVERYTHING.contains(&lower);
        self.everybody |= (all && !of_ports) || EVERYTHING.contains(&lower) || ANYBODY.contains(&lower);
        let known = SERVICES.iter().filter(|(name, _)| *name == lower);
        self.services.extend(known.map(|(_, port)| (None, *port, *port)));
        self.nets.extend(net(word));
        if let Some((key, value)) = word.split_once('=').map(|(key, value)| (key, value.trim_start_matches('='))) {
            if NAMESPACES.contains(&&*key.to_ascii_lowercase()) {
                self.namespaces.insert(value.to_owned());
            } else if !key.is_empty() && !value.is_empty() {
                self.labels.insert((key.to_owned(), value.to_owned()));
            }
        }
    }

    /// Like `tcp/443`, `443/TCP`, `TCP 443`, `ports 80, 443 and 8000-8080`, `192.0.2.1:443`.
    fn ports_in(&mut self, words: &[&str]) {
        let mut listing = false;
        let mut ranged = false;
        for (i, word) in words.iter().enumerate() {
            let lower = word.to_ascii_lowercase();
            if let Some(port) = with_protocol(&lower) {
                self.ports.push(port);
            } else if let Some((first, last)) = range(&lower) {
                let named = words.get(i + 1).and_then(|next| protocol(&next.to_ascii_lowercase()));
                let before = self.ports.last_mut().filter(|_| listing && ranged);
                match before {
                    Some(before) if before.2 < first => before.2 = last,
                    _ if listing || named.is_some() => self.ports.push((named, first, last)),
                    _ => {}
                }
                listing |= named.is_some();
            } else {
                self.ports.extend(of_address(&lower));
                let protocol = protocol(&lower).is_some();
                listing = protocol || matches!(&*lower, "port" | "ports") || (listing && BETWEEN.contains(&&*lower));
            }
            ranged = matches!(&*lower, "to" | "through" | "-");
        }
    }

    /// Like `namespace monitoring`, `the monitoring namespace`, `namespaces a and b`.
    fn namespaces_in(&mut self, words: &[&str]) {
        let is = |word: &&str| NAMESPACES.contains(&&*word.to_ascii_lowercase());
        let mut listing = false;
        for (i, word) in words.iter().enumerate() {
            if is(word) {
                self.namespaces.extend(i.checked_sub(1).and_then(|i| words.get(i)).map(ToString::to_string));
                listing = true;
            } else if listing {
                let between = BETWEEN.contains(&&*word.to_ascii_lowercase());
                if !between {
                    self.namespaces.insert((*word).to_owned());
                }
                let goes_on = words.get(i + 1).is_some_and(|next| BETWEEN.contains(&&*next.to_ascii_lowercase()));
                listing = between || goes_on;
            }
        }
    }
}

/// Without what ends a sentence.
fn trim(word: &str) -> &str {
    if word.parse::<IpAddr>().is_ok() { word } else { word.trim_end_matches(['.', ':', '!', '?']) }
}

fn protocol(word: &str) -> Option<u8> {
    let known = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, number)| *number).filter(|number| matches!(number, 6 | 17 | 132))
}

fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once(['-', '–']).unwrap_or((word, word));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

fn with_protocol(word: &str) -> Option<Spoken> {
    let (one, other) = word.split_once(['/', ':'])?;
    let (named, (first, last)) = match (protocol(one), protocol(other)) {
        (Some(named), None) => (named, range(other)?),
        (None, Some(named)) => (named, range(one)?),
        _ => return None,
    };
    Some((Some(named), first, last))
}

fn of_address(word: &str) -> Option<Spoken> {
    let (address, port) = word.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let (first, last) = range(port).filter(|_| address.is_empty() || address.parse::<std::net::Ipv4Addr>().is_ok())?;
    Some((None, first, last))
}

fn net(word: &str) -> Option<IpNet> {
    let address = word.split_once(':').map_or(word, |(address, _)| address);
    let parse = |text: &str| text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    parse(word).or_else(|| parse(address)).map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<Spoken> {
        Said::by([text]).ports
    }

    #[test]
    fn ports_are_spoken_of_in_many_ways() {
        let https = |protocol| vec![(protocol, 443, 443)];
        for text in ["tcp/443", "443/TCP", "TCP 443", "443 tcp", "tcp:443", "TCP port 443/tcp."] {
            assert_eq!(ports(text).first().map(|port| (port.1, port.2)), Some((443, 443)), "{text}");
        }
        assert_eq!(ports("443/TCP"), https(Some(6)));
        assert_eq!(ports("Only port 443."), https(None));
        assert_eq!(ports("to 192.0.2.1:443"), https(None));
        assert_eq!(ports("ports 80, 443 and 8000-8080"), [(None, 80, 80), (None, 443, 443), (None, 8000, 8080)]);
        assert_eq!(ports("ports 80 to 90"), [(None, 80, 90)]);
        assert_eq!(ports("udp/53 and tcp/53"), [(Some(17), 53, 53), (Some(6), 53, 53)]);
    }

    #[test]
    fn not_every_number_is_a_port() {
        for text in
            ["see ticket 443", "10 pods", "on 2 ports", "at 16:30", "version 1.2.3", "443 requests", "tcp from 10 pods"]
        {
            assert_eq!(ports(text), [], "{text}");
        }
        assert_eq!(ports("allow-all"), []);
        assert_eq!(Said::by(["dns"]).services, [(None, 53, 53)]);
    }

    #[test]
    fn namespaces_labels_and_addresses() {
        let said = Said::by([
            "app=web of the shop namespace, and namespaces a, b and c from 10.0.0.0/8, 192.0.2.1 or fd00::/8.",
        ]);
        for name in ["shop", "a"] {
            assert!(said.namespaces.contains(name), "{name}: {said:?}");
        }
        assert_eq!(said.labels, [("app".to_owned(), "web".to_owned())].into());
        let nets: Vec<String> = said.nets.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
        assert_eq!(Said::by(["namespace=shop"]).namespaces, ["shop".to_owned()].into());
    }

    #[test]
    fn who_says_all_says_no_more() {
        assert!(Said::by(["all ports"]).all_ports && !Said::by(["all ports"]).everybody);
        assert!(Said::by(["any namespace"]).everybody && !Said::by(["any namespace"]).all_ports);
        assert!(Said::by(["everything"]).all_ports && Said::by(["everything"]).everybody);
        assert!(Said::by(["443/tcp to the internet"]).everybody);
        assert_eq!(Said::by(["inbound 80/tcp"]).direction, Some(Direction::Ingress));
        assert_eq!(Said::by(["ingress 80/tcp, egress 53/udp"]).direction, None);
    }
}
