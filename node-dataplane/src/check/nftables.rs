//! Lists the chains of nftables: `NFT_MSG_GETCHAIN` over netlink, see `linux/netfilter/nf_tables.h`. iptables keeps its chains
//! there, too, on all but old distributions.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::Chain;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x1 | 0x300;
/// Of a message: length, type, flags, sequence, sender.
const HEADER: usize = 16;
/// Of a message of nftables: family, version, resource.
const FAMILY: usize = 4;

/// All chains of the network namespace.
pub(super) fn chains() -> io::Result<Vec<Chain>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    let mut request = Vec::with_capacity(HEADER + FAMILY);
    request.extend(((HEADER + FAMILY) as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN).to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([0; FAMILY]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    answers(&socket)
}

fn answers(socket: &OwnedFd) -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(chains),
                NLMSG_ERROR => match i32::from_ne_bytes(first(body).unwrap_or_default()) {
                    0 => return Ok(chains),
                    errno => return Err(io::Error::from_raw_os_error(-errno)),
                },
                kind if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN => {
                    chains.extend(body.get(FAMILY..).and_then(chain));
                }
                _ => {}
            }
            rest = after;
        }
    }
}

/// Type, body and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(first(bytes)?) as usize;
    let kind = u16::from_ne_bytes(first(bytes.get(4..)?)?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn chain(mut attributes: &[u8]) -> Option<Chain> {
    let (mut table, mut name) = (None, None);
    while let Some(length) = first(attributes).map(u16::from_ne_bytes) {
        let length = usize::from(length);
        let kind = u16::from_ne_bytes(first(attributes.get(2..)?)?);
        let value = attributes.get(4..length)?;
        let text = || String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned();
        match kind {
            NFTA_CHAIN_TABLE => table = Some(text()),
            NFTA_CHAIN_NAME => name = Some(text()),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Chain { table: table?, name: name? })
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}
