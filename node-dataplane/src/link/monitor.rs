//! What others do to the node's devices, addresses and routes, as the kernel tells it.
//!
//! A message only says that something changed; what is so then is asked for. Messages are read byte by byte, because most are of
//! no interest (pods' devices, the routes of a routing daemon) and shall cost little.

use std::io;
use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::time::{Instant, timeout_at};

use super::LinkError;
use super::route::Owner;
use super::uplink::is_pod_device;

/// What comes within this time of another change belongs to it.
const QUIET: Duration = Duration::from_millis(50);
/// Changes that never end are told of so often.
const LONGEST: Duration = Duration::from_millis(250);
/// Room for what comes while nobody reads.
const BUFFER: libc::c_int = 1 << 20;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLM_F_REPLACE: u16 = 0x100;
const IFLA_IFNAME: u16 = 3;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RT_TABLE_MAIN: u8 = 254;
/// What the kernel makes of an IPv6 route without a metric.
const IPV6_METRIC: u32 = 1024;

/// Links, addresses and routes of both families (`RTNLGRP_*`).
const GROUPS: u32 = group(1) | group(5) | group(7) | group(9) | group(11);

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// Listens in the network namespace in which it was made.
#[allow(missing_debug_implementations, reason = "a socket has none")]
pub struct Monitor {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens from now on, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn new() -> Result<Self, LinkError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            // What the kernel cannot put there it says by an error, which counts as a change.
            socket.socket_ref().set_rx_buf_sz(BUFFER)?;
            socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(LinkError::Socket)?, buffer: Vec::with_capacity(32 << 10) })
    }

    /// Returns when something of interest changed and no more did for a moment.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.next().await?;
        let latest = Instant::now() + LONGEST;
        loop {
            match timeout_at(latest.min(Instant::now() + QUIET), self.next()).await {
                Ok(result) if Instant::now() < latest => result?,
                Ok(result) => return result,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Returns with the next change of interest.
    async fn next(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) if is_of_interest(&self.buffer) => return Ok(()),
                Ok(()) => {}
                // Messages were lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a datagram of messages tells of anything that this node's network depends on.
fn is_of_interest(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= 16) else {
            return true; // cut off
        };
        if message_is_of_interest(message) {
            return true;
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    false
}

fn message_is_of_interest(message: &[u8]) -> bool {
    let (Some(kind), Some(flags)) = (u16_at(message, 4), u16_at(message, 6)) else { return true };
    let body = message.get(16..).unwrap_or_default();
    match kind {
        RTM_NEWLINK | RTM_DELLINK => {
            let name = attribute(body, 16, IFLA_IFNAME).and_then(|name| std::str::from_utf8(name).ok());
            !name.is_some_and(|name| is_pod_device(name.trim_end_matches('\0')))
        }
        RTM_NEWADDR | RTM_DELADDR => true,
        RTM_NEWROUTE | RTM_DELROUTE => route_is_of_interest(kind, flags, body),
        _ => false,
    }
}

fn route_is_of_interest(kind: u16, flags: u16, body: &[u8]) -> bool {
    let &[family, length, _, _, table, protocol, ..] = body else { return true };
    if table != RT_TABLE_MAIN {
        return false;
    }
    if [Owner::Node, Owner::Pod].iter().any(|owner| owner.number() == protocol) {
        // Gone: perhaps by somebody else's hand.
        return kind == RTM_DELROUTE;
    }
    let has = |kind| attribute(body, 12, kind).is_some();
    let routed = has(RTA_GATEWAY) || has(RTA_MULTIPATH) || has(RTA_VIA);
    let metric = attribute(body, 12, RTA_PRIORITY).and_then(|metric| u32_at(metric, 0));
    let ours = if i32::from(family) == libc::AF_INET6 { Some(IPV6_METRIC) } else { None };
    // Somebody's route may have taken the place of one of ours.
    length == 0 || !routed || (flags & NLM_F_REPLACE != 0 && metric == ours)
}

/// The value of an attribute behind a header of `header` bytes.
fn attribute(body: &[u8], header: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(header..)?;
    loop {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..length)?;
        if kind & 0x3fff == wanted {
            return Some(value);
        }
        rest = rest.get(aligned(length)..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.max(1).next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkMessage};
    use rtnetlink::packet_route::RouteNetlinkMessage as Message;
    use rtnetlink::packet_route::address::AddressMessage;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
    use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
    use rtnetlink::packet_route::{AddressFamily, route::RouteHeader};

    use super::*;

    fn bytes(message: Message, flags: u16) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(name: &str) -> Message {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        Message::NewLink(message)
    }

    fn route(protocol: u8, length: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = protocol.into();
        message.header.destination_prefix_length = length;
        message.attributes = attributes;
        message
    }

    #[test]
    fn what_only_concerns_pods_or_a_routing_daemon_is_not_told() {
        let router =
            || vec![RouteAttribute::Gateway(std::net::Ipv4Addr::new(192, 0, 2, 9).into()), RouteAttribute::Oif(2)];
        let metric = |metric| [router(), vec![RouteAttribute::Priority(metric)]].concat();
        let (node, pod, bird) = (Owner::Node.number(), Owner::Pod.number(), 12);
        let cases = [
            (true, "a device", bytes(link("eth0"), 0)),
            (false, "a pod's device", bytes(link("axo0123456789a"), 0)),
            (true, "an address", bytes(Message::NewAddress(AddressMessage::default()), 0)),
            (false, "a new route of ours", bytes(Message::NewRoute(route(node, 24, router())), 0)),
            (true, "a route of ours that is gone", bytes(Message::DelRoute(route(node, 24, router())), 0)),
            (true, "a route to a pod that is gone", bytes(Message::DelRoute(route(pod, 32, vec![])), 0)),
            (true, "a default route", bytes(Message::NewRoute(route(bird, 0, router())), 0)),
            (true, "a route to neighbours", bytes(Message::NewRoute(route(2, 24, vec![RouteAttribute::Oif(2)])), 0)),
            (false, "a route of a routing daemon", bytes(Message::NewRoute(route(bird, 24, router())), 0)),
            (true, "a route in place of another", bytes(Message::NewRoute(route(3, 24, router())), NLM_F_REPLACE)),
            (false, "a route of a metric", bytes(Message::NewRoute(route(bird, 24, metric(32))), NLM_F_REPLACE)),
        ];
        for (expected, what, datagram) in &cases {
            assert_eq!(is_of_interest(datagram), *expected, "{what}");
        }
        let several = [cases[1].2.clone(), cases[3].2.clone(), cases[0].2.clone()].concat();
        assert!(is_of_interest(&several));
        assert!(!is_of_interest(&several[..cases[1].2.len() + cases[3].2.len()]));
        assert!(is_of_interest(&several[..several.len() - 8]), "cut off");
    }
}
