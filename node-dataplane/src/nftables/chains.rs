//! Lists the chains of nftables. iptables keeps its chains there, too, on all but old distributions.

use std::io;

use nix::sys::socket::SockProtocol;

use super::message::{HEADER, NFNL_SUBSYS_NFTABLES};
use crate::check::{Chain, Tool};
use crate::netlink::{attributes, list, text};

const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
/// Tables that iptables makes.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// All chains of the network namespace.
///
/// # Errors
/// When the kernel refuses, or has no nftables.
pub fn chains() -> io::Result<Vec<Chain>> {
    let request = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
    let answer = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN;
    let mut chains = Vec::new();
    list(SockProtocol::NetlinkNetFilter, request, &[0; HEADER], answer, |body| chains.extend(chain(body)))?;
    Ok(chains)
}

fn chain(body: &[u8]) -> Option<Chain> {
    let family = *body.first()?;
    let (mut table, mut name) = (None, None);
    for (kind, value) in attributes(body.get(HEADER..)?) {
        match kind {
            NFTA_CHAIN_TABLE => table = Some(text(value)),
            NFTA_CHAIN_NAME => name = Some(text(value)),
            _ => {}
        }
    }
    let (table, name) = (table?, name?);
    let tool = match (family, IPTABLES.contains(&table.as_str())) {
        (2, true) => Tool::Iptables,
        (10, true) => Tool::Ip6tables,
        _ => Tool::Nft(named(family)),
    };
    Some(Chain { tool, table, name })
}

/// A family as `nft` calls it.
fn named(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        _ => "ip6",
    }
}
