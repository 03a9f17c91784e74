//! The format of netlink's messages and attributes, see `linux/netlink.h`, and how the kernel is asked for a list.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x1 | 0x300;
/// Of a message: length, type, flags, sequence, sender.
const HEADER: usize = 16;
/// In an attribute's type: it holds attributes, or big-endian numbers.
const FLAGS: u16 = 0xc000;

/// Asks for a list, and takes the bodies of all messages of type `answer`. `header` follows the message's own.
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
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let mut message = Vec::with_capacity(HEADER + header.len());
    message.extend(((HEADER + header.len()) as u32).to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(header);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;

    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            length => length?,
        };
        let mut rest = &buffer[..length];
        while let Some((kind, body, after)) = split(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => match i32::from_ne_bytes(first(body).unwrap_or_default()) {
                    0 => return Ok(()),
                    errno => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                },
                kind if kind == answer => take(body),
                _ => {}
            }
            rest = after;
        }
    }
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
