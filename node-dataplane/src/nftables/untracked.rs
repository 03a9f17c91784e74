//! Tunnel packets that come to this node are no connections: all of a tunnel go to one port, none is an answer to another. The
//! host tracks them all the same as soon as any rule of its asks for connections, which takes as long as the rest of their way
//! through the host, and an entry for each of the pods' flows. So they are exempted, by a table of our own.
//!
//! Only those to this node's own end: what it forwards or translates for others is theirs. And only incoming ones: a host that
//! lets nothing out but new and known connections (as Google's nodes do) would throw away what is neither.

use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::message::{HEADER, attribute, end_of_batch, nested, request, text};
use crate::netlink::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, Request, Socket, attributes, text as as_text};

/// The table, of the family `inet`.
pub const TABLE: &str = "axoneme";
const CHAIN: &str = "tunnel";

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
/// Within a table's userdata: its comment, which `nft list table` shows.
const UDATA_TABLE_COMMENT: u8 = 0;

/// Has the host track no tunnel packets to this end. Nothing is changed if that is so already.
///
/// # Errors
/// When the kernel refuses, or has no nftables.
pub fn ensure(end: IpAddr, port: u16) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let comment = format!("VXLAN to {end} port {port} needs no connection tracking");
    if find(&socket)?.is_some_and(|table| table.comment.as_deref() == Some(&comment)) {
        return Ok(());
    }
    // Made first, so that there is one to delete.
    let mut requests = vec![table(NFT_MSG_NEWTABLE, None), table(NFT_MSG_DELTABLE, None)];
    requests.extend([table(NFT_MSG_NEWTABLE, Some(&comment)), chain(), rule(end, port)]);
    change(&socket, requests)
}

/// Takes the exemption back, if there is one.
///
/// # Errors
/// When the kernel refuses.
pub fn remove() -> io::Result<()> {
    let socket = match Socket::open(SockProtocol::NetlinkNetFilter) {
        Err(error) if is_unsupported(&error) => return Ok(()),
        socket => socket?,
    };
    match find(&socket)? {
        Some(_) => change(&socket, vec![table(NFT_MSG_DELTABLE, None)]),
        None => Ok(()),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP))
}

struct Table {
    comment: Option<String>,
}

/// None also where the kernel has no nftables.
fn find(socket: &Socket) -> io::Result<Option<Table>> {
    let request = request(NFT_MSG_GETTABLE, NLM_F_ACK, NFPROTO_INET, &[text(NFTA_TABLE_NAME, TABLE)]);
    let mut found = None;
    let asked = socket.ask(&[request], |_, body| {
        let userdata =
            attributes(body.get(HEADER..).unwrap_or_default()).find(|(kind, _)| *kind == NFTA_TABLE_USERDATA);
        found = Some(Table { comment: userdata.and_then(|(_, value)| comment(value)) });
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) || is_unsupported(&error) => Ok(None),
        asked => asked.map(|()| found),
    }
}

/// Userdata is a sequence of type, length and value.
fn comment(userdata: &[u8]) -> Option<String> {
    match userdata {
        [UDATA_TABLE_COMMENT, length, value @ ..] => value.get(..usize::from(*length)).map(as_text),
        _ => None,
    }
}

/// All of it or nothing.
fn change(socket: &Socket, requests: Vec<Request>) -> io::Result<()> {
    let mut batch = vec![end_of_batch(NFNL_MSG_BATCH_BEGIN)];
    batch.extend(requests);
    batch.push(end_of_batch(NFNL_MSG_BATCH_END));
    socket.ask(&batch, |_, _| {})
}

fn table(kind: u16, comment: Option<&str>) -> Request {
    let flags = if kind == NFT_MSG_NEWTABLE { NLM_F_ACK | NLM_F_CREATE } else { NLM_F_ACK };
    let mut attributes = vec![text(NFTA_TABLE_NAME, TABLE)];
    attributes.extend(comment.map(|comment| {
        let mut value = vec![UDATA_TABLE_COMMENT, comment.len() as u8 + 1];
        value.extend(comment.as_bytes());
        value.push(0);
        attribute(NFTA_TABLE_USERDATA, value)
    }));
    request(kind, flags, NFPROTO_INET, &attributes)
}

/// `type filter hook prerouting priority raw; policy accept`: before connections are tracked.
fn chain() -> Request {
    const TABLE_OF: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    const NF_INET_PRE_ROUTING: u32 = 0;
    const NF_IP_PRI_RAW: i32 = -300;
    const NF_ACCEPT: u32 = 1;
    let hook = [
        attribute(HOOK_NUMBER, NF_INET_PRE_ROUTING.to_be_bytes()),
        attribute(HOOK_PRIORITY, NF_IP_PRI_RAW.to_be_bytes()),
    ];
    let attributes = [
        text(TABLE_OF, TABLE),
        text(NAME, CHAIN),
        nested(HOOK, &hook),
        attribute(POLICY, NF_ACCEPT.to_be_bytes()),
        text(TYPE, "filter"),
    ];
    request(NFT_MSG_NEWCHAIN, NLM_F_ACK | NLM_F_CREATE, NFPROTO_INET, &attributes)
}

/// `ip daddr END udp dport PORT notrack`, or `ip6`.
fn rule(end: IpAddr, port: u16) -> Request {
    const TABLE_OF: u16 = 1;
    const CHAIN_OF: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    /// Where an IP header has the destination.
    const DESTINATION: (u32, u32) = (16, 24);
    /// Where a UDP header has the destination's port.
    const DESTINATION_PORT: u32 = 2;
    let (family, at, address) = match end {
        IpAddr::V4(v4) => (NFPROTO_IPV4, DESTINATION.0, v4.octets().to_vec()),
        IpAddr::V6(v6) => (NFPROTO_IPV6, DESTINATION.1, v6.octets().to_vec()),
    };
    let expressions = [
        meta(META_NFPROTO),
        equals(&[family]),
        payload(NETWORK_HEADER, at, address.len() as u32),
        equals(&address),
        meta(META_L4PROTO),
        equals(&[libc::IPPROTO_UDP as u8]),
        payload(TRANSPORT_HEADER, DESTINATION_PORT, 2),
        equals(&port.to_be_bytes()),
        expression("notrack", &[]),
    ];
    let attributes = [text(TABLE_OF, TABLE), text(CHAIN_OF, CHAIN), nested(EXPRESSIONS, &expressions)];
    request(NFT_MSG_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND, NFPROTO_INET, &attributes)
}

/// The register that expressions hand a value on in.
const REGISTER: [u8; 4] = 1_u32.to_be_bytes();

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    const LIST_ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let mut parts = vec![text(NAME, name)];
    if !data.is_empty() {
        parts.push(nested(DATA, data));
    }
    nested(LIST_ELEMENT, &parts)
}

/// Loads what is known about a packet.
fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[attribute(1, REGISTER), attribute(2, key.to_be_bytes())])
}

/// Loads bytes of a packet.
fn payload(header: u32, offset: u32, length: u32) -> Vec<u8> {
    let numbers = [header, offset, length].map(u32::to_be_bytes);
    let of = |kind: u16, number: [u8; 4]| attribute(kind, number);
    expression("payload", &[of(1, REGISTER), of(2, numbers[0]), of(3, numbers[1]), of(4, numbers[2])])
}

/// Goes on if what was loaded is this.
fn equals(value: &[u8]) -> Vec<u8> {
    const EQUAL: u32 = 0;
    const VALUE: u16 = 1;
    let data = nested(3, &[attribute(VALUE, value)]);
    expression("cmp", &[attribute(1, REGISTER), attribute(2, EQUAL.to_be_bytes()), data])
}
