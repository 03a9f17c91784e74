//! Messages of nftables: `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.

use crate::netlink::Request;

pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NLA_F_NESTED: u16 = 0x8000;
/// Of a message: family, version, resource.
pub(super) const HEADER: usize = 4;

/// Asks for something of nftables, by its own type. A family is a table's.
pub(super) fn request(kind: u16, flags: u16, family: u8, attributes: &[Vec<u8>]) -> Request {
    Request { kind: NFNL_SUBSYS_NFTABLES << 8 | kind, flags, body: body(family, 0, attributes) }
}

/// Begins or ends a batch: all of it is done, or nothing.
pub(super) fn end_of_batch(kind: u16) -> Request {
    Request { kind, flags: 0, body: body(0, NFNL_SUBSYS_NFTABLES, &[]) }
}

fn body(family: u8, resource: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![family, 0];
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes.concat());
    bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{attributes, text as as_text};

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let written = [text(1, "odd"), nested(2, &[attribute(3, 7_u32.to_be_bytes())]), attribute(4, [])].concat();
        let read: Vec<_> = attributes(&written).collect();
        assert_eq!(read.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(as_text(read[0].1), "odd");
        assert_eq!(attributes(read[1].1).next(), Some((3, &[0, 0, 0, 7][..])));
    }
}
