//! Chains of the older interface of iptables, which no other interface tells of: `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` of
//! `linux/netfilter_ipv4/ip_tables.h`, and the same of `ip6_tables.h`. Only tables that exist are asked for, because the kernel makes
//! those that do not.
//!
//! A table is one list of entries. A chain that somebody has made begins with an entry whose target is called ERROR, and that
//! target's data is the chain's name; the list ends with such an entry, whose data is ERROR as well.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Family;
use crate::netlink::{first, text};

const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Of a table's name, with the zero at its end.
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, hooks, five offsets twice, count, size.
const INFO: usize = 84;
const INFO_SIZE: usize = 80;
/// `struct ipt_get_entries` before the entries, which hold 64-bit numbers: name, size.
const REQUEST: usize = NAME + 8;
/// Of a target before its data: size, name, revision.
const TARGET: usize = 32;
const TARGET_NAME: usize = 2;
const ERROR: &str = "ERROR";
/// More than the largest tables there are, and what somebody's kernel may make us allocate.
const LARGEST: usize = 256 << 20;
/// A table that changes between the two questions is asked for anew.
const TRIES: usize = 10;

/// Where an entry has what we look for; entries of the two families differ in the addresses that they begin with.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// 16 bits: offset of the target.
    target: usize,
    /// 16 bits: offset of the next entry.
    next: usize,
    /// Where matches begin.
    header: usize,
}

const IPV4: Layout = Layout { target: 88, next: 90, header: 112 };
const IPV6: Layout = Layout { target: 140, next: 142, header: 168 };

/// The chains of a table that somebody has made.
///
/// # Errors
/// When the kernel refuses, or answers what is no table.
pub(super) fn chains(family: Family, table: &str) -> io::Result<Vec<String>> {
    let (domain, level, layout) = match family {
        Family::V4 => (AddressFamily::Inet, libc::SOL_IP, IPV4),
        Family::V6 => (AddressFamily::Inet6, libc::SOL_IPV6, IPV6),
    };
    let socket = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut named = [0; NAME];
    named[..NAME - 1].get_mut(..table.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(table.as_bytes());
    let mut tries = 0;
    loop {
        tries += 1;
        match entries(&socket, level, named) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < TRIES => {}
            entries => return parse(layout, &entries?).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        }
    }
}

fn entries(socket: &OwnedFd, level: libc::c_int, table: [u8; NAME]) -> io::Result<Vec<u8>> {
    let mut info = vec![0; INFO];
    info[..NAME].copy_from_slice(&table);
    ask(socket, level, GET_INFO, &mut info)?;
    let size: [u8; 4] = first(&info[INFO_SIZE..]).ok_or(io::ErrorKind::InvalidData)?;
    let length = u32::from_ne_bytes(size) as usize;
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut entries = vec![0; REQUEST + length];
    entries[..NAME].copy_from_slice(&table);
    entries[NAME..NAME + 4].copy_from_slice(&size);
    ask(socket, level, GET_ENTRIES, &mut entries)?;
    Ok(entries.split_off(REQUEST))
}

fn ask(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which is ours alone, and the length is ours as well.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), std::ptr::from_mut(&mut length))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Names of chains among a table's entries. None: these are no entries.
fn parse(layout: Layout, mut entries: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !entries.is_empty() {
        let offset = |at: usize| entries.get(at..).and_then(first).map(u16::from_ne_bytes).map(usize::from);
        let (target, next) = (offset(layout.target)?, offset(layout.next)?);
        if target < layout.header || next < target + TARGET {
            return None;
        }
        let (entry, rest) = entries.split_at_checked(next)?;
        let target = entry.get(target..)?;
        if text(target.get(TARGET_NAME..TARGET)?) == ERROR {
            names.push(text(target.get(TARGET..)?));
        }
        entries = rest;
    }
    // What the list ends with.
    names.pop().filter(|last| last == ERROR)?;
    Some(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry with room for matches, with this target and its data.
    fn entry(layout: Layout, matches: usize, target: &str, data: &str) -> Vec<u8> {
        let mut entry = vec![0; layout.header + matches + TARGET + 32];
        let (at, length) = (layout.header + matches, entry.len());
        entry[layout.target..layout.target + 2].copy_from_slice(&(at as u16).to_ne_bytes());
        entry[layout.next..layout.next + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        entry[at + TARGET_NAME..][..target.len()].copy_from_slice(target.as_bytes());
        entry[at + TARGET..][..data.len()].copy_from_slice(data.as_bytes());
        entry
    }

    fn table(layout: Layout) -> Vec<u8> {
        let rule = entry(layout, 40, "", "");
        let chains = ["CILIUM_INPUT", "KUBE-SERVICES"].map(|name| entry(layout, 0, ERROR, name));
        [rule.clone(), chains[0].clone(), rule.clone(), chains[1].clone(), rule, entry(layout, 0, ERROR, ERROR)]
            .concat()
    }

    #[test]
    fn chains_are_found_between_rules() {
        for layout in [IPV4, IPV6] {
            assert_eq!(parse(layout, &table(layout)).unwrap(), ["CILIUM_INPUT", "KUBE-SERVICES"]);
            assert_eq!(parse(layout, &entry(layout, 0, ERROR, ERROR)).unwrap(), Vec::<String>::new());
            assert_eq!(parse(layout, &[]), None, "a table has an end at least");
        }
    }

    proptest! {
        /// Whatever the kernel answers, we get names, or are told that it is no table.
        #[test]
        fn no_bytes_make_it_fail(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            length in any::<prop::sample::Index>(),
            v6 in any::<bool>(),
        ) {
            let layout = if v6 { IPV6 } else { IPV4 };
            parse(layout, &bytes);
            let mut almost = table(layout);
            for (at, byte) in changes {
                let at = at.index(almost.len());
                almost[at] = byte;
            }
            almost.truncate(length.index(almost.len() + 1));
            if let Some(names) = parse(layout, &almost) {
                prop_assert!(names.len() < almost.len() / layout.header);
            }
        }
    }
}
