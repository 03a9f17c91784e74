//! Lists the chains of nftables. iptables keeps its chains there, too, on all but old distributions.

use std::io;

use super::message::{NFNL_SUBSYS_NFTABLES, NLM_F_DUMP, Request, Socket, as_text, attributes};
use crate::check::Chain;

const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;

/// All chains of the network namespace.
///
/// # Errors
/// When the kernel refuses, or has no nftables.
pub fn chains() -> io::Result<Vec<Chain>> {
    let request = Request {
        kind: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN,
        flags: NLM_F_DUMP,
        family: 0,
        resource: 0,
        attributes: Vec::new(),
    };
    let mut chains = Vec::new();
    Socket::open()?.ask(&[request], |kind, body| {
        if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN {
            chains.extend(chain(body));
        }
    })?;
    Ok(chains)
}

fn chain(body: &[u8]) -> Option<Chain> {
    let part = |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| as_text(value));
    Some(Chain { table: part(NFTA_CHAIN_TABLE)?, name: part(NFTA_CHAIN_NAME)? })
}
