//! Messages of nftables: `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

pub(super) use crate::netlink::{attributes, text as as_text};
use crate::netlink::{first, split};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
/// Of a message: length, type, flags, sequence, sender.
const HEADER: usize = 16;
/// Of a message of netfilter: family, version, resource.
const FAMILY: usize = 4;

/// What is asked for: a type, flags, and attributes.
pub(super) struct Request {
    pub(super) kind: u16,
    pub(super) flags: u16,
    /// Of the table; 0 where it does not matter.
    pub(super) family: u8,
    /// Big endian on the wire; 0 but for a batch's ends.
    pub(super) resource: u16,
    pub(super) attributes: Vec<Vec<u8>>,
}

impl Request {
    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let attributes = self.attributes.concat();
        out.extend(((HEADER + FAMILY + attributes.len()) as u32).to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend((NLM_F_REQUEST | self.flags).to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend([self.family, 0]);
        out.extend(self.resource.to_be_bytes());
        out.extend(attributes);
    }
}

/// An attribute, padded.
pub(super) fn attribute(kind: u16, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// An attribute that consists of others.
pub(super) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, parts.concat())
}

/// An attribute with a text.
pub(super) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, [value.as_bytes(), &[0]].concat())
}

/// A connection to netfilter, in the network namespace of the thread that made it.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// # Errors
    /// `EPROTONOSUPPORT` when the kernel has no netfilter.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkNetFilter;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Sends requests as one, and shows what is answered: types and attributes. Each request has either an answer that ends
    /// with "done", or an acknowledgement: it has `NLM_F_DUMP`, or `NLM_F_ACK`, or none of both.
    ///
    /// # Errors
    /// What the kernel refuses first.
    pub(super) fn ask(&self, requests: &[Request], mut answer: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (sequence, request) in requests.iter().enumerate() {
            request.write(sequence as u32, &mut bytes);
        }
        let mut awaited = requests.iter().filter(|request| request.flags & (NLM_F_ACK | NLM_F_DUMP) != 0).count();
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut buffer = vec![0; 64 << 10];
        while awaited > 0 {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    NLMSG_DONE => awaited = awaited.saturating_sub(1),
                    NLMSG_ERROR => match i32::from_ne_bytes(first(body).unwrap_or_default()) {
                        0 => awaited = awaited.saturating_sub(1),
                        errno => return Err(io::Error::from_raw_os_error(-errno)),
                    },
                    kind => answer(kind, body.get(FAMILY..).unwrap_or_default()),
                }
                rest = after;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let written = [text(1, "odd"), nested(2, &[attribute(3, 7_u32.to_be_bytes())]), attribute(4, [])].concat();
        let read: Vec<_> = attributes(&written).collect();
        assert_eq!(read.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(as_text(read[0].1), "odd");
        assert_eq!(attributes(read[1].1).next(), Some((3, &[0, 0, 0, 7][..])));
    }
}
