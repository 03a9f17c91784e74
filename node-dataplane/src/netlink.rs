//! The format of netlink's messages and attributes, see `linux/netlink.h`, and how the kernel is asked.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
/// Flags of a request: an acknowledgement is asked for; a list; what is not there is made; it is made at the end of a list.
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
/// Of a message: length, type, flags, sequence, sender.
const HEADER: usize = 16;
/// In an attribute's type: it holds attributes, or big-endian numbers.
const FLAGS: u16 = 0xc000;

/// What is asked for.
pub struct Request {
    /// Type of the message.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// What follows the message's header: the protocol's own, and attributes.
    pub body: Vec<u8>,
}

impl Request {
    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        out.extend(((HEADER + self.body.len()) as u32).to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend((NLM_F_REQUEST | self.flags).to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// A connection to the kernel, in the network namespace of the thread that made it.
pub struct Socket(OwnedFd);

impl Socket {
    /// # Errors
    /// `EPROTONOSUPPORT` when the kernel does not speak this protocol.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Sends requests as one, and shows what is answered: types, and what follows the messages' headers. Each request has either
    /// an answer that ends with "done", or an acknowledgement: it has `NLM_F_DUMP`, or `NLM_F_ACK`, or none of both.
    ///
    /// # Errors
    /// What the kernel refuses first.
    pub fn ask(&self, requests: &[Request], mut answer: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (sequence, request) in requests.iter().enumerate() {
            request.write(sequence as u32, &mut bytes);
        }
        let mut awaited = requests.iter().filter(|request| request.flags & (NLM_F_ACK | NLM_F_DUMP) != 0).count();
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut buffer = vec![0; 64 << 10];
        while awaited > 0 {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = &buffer[..length];
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    NLMSG_DONE => awaited = awaited.saturating_sub(1),
                    NLMSG_ERROR => match i32::from_ne_bytes(first(body).unwrap_or_default()) {
                        0 => awaited = awaited.saturating_sub(1),
                        errno => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                    },
                    kind => answer(kind, body),
                }
                rest = after;
            }
        }
        Ok(())
    }
}

/// Asks for a list, and takes the bodies of all messages of type `answer`. `header` is the protocol's own.
///
/// # Errors
/// What the kernel answers.
pub fn list(
    protocol: SockProtocol,
    request: u16,
    header: &[u8],
    answer: u16,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let request = Request { kind: request, flags: NLM_F_DUMP, body: header.to_vec() };
    Socket::open(protocol)?.ask(&[request], |kind, body| {
        if kind == answer {
            take(body);
        }
    })
}

/// Type and body of the first message, and what follows it.
pub fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(first(bytes)?) as usize;
    let kind = u16::from_ne_bytes(first(bytes.get(4..)?)?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Types and values of attributes; what is cut off is left out.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(first(bytes)?));
        let kind = u16::from_ne_bytes(first(bytes.get(2..)?)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !FLAGS, value))
    })
}

/// A text that ends in a zero.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number of the host's order.
pub fn number(value: &[u8]) -> Option<u32> {
    first(value).map(u32::from_ne_bytes)
}

/// The first bytes, if there are so many.
pub fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_taken_apart_in_bounded_steps(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
            let mut rest = &bytes[..];
            while let Some((_, _, after)) = split(rest) {
                prop_assert!(after.len() < rest.len());
                rest = after;
            }
        }
    }

    #[test]
    fn an_attribute_that_is_cut_off_ends_the_list() {
        let mut bytes = vec![8, 0, 3, 0x80, 1, 0, 0, 0];
        bytes.extend([7, 0, 4, 0, b'a', b'b', 0, 0]);
        bytes.extend([200, 0, 5, 0]);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &[1, 0, 0, 0][..]), (4, &[b'a', b'b', 0][..])]);
        assert_eq!((number(read[0].1), text(read[1].1)), (Some(1), "ab".to_owned()));
    }
}
