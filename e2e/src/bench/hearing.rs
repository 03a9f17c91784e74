//! Who is heard where: datagrams that say from whom they are, and their number.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::stream::bind;

/// UDP port of everybody.
pub(super) const PORT: u16 = 7001;
/// So many datagrams a new pod sends quickly; see `bench/announce.c`.
pub(super) const QUICK: u32 = 100;
/// Room for what comes while the listener waits for a CPU.
const BUFFER: usize = 32 << 20;

/// What a peer has heard of somebody: the first number, and how many of the quick ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) first: u32,
    pub(super) quick: u32,
}

/// What a peer has heard of everybody.
pub(super) type Ledger = Mutex<HashMap<String, Heard>>;

/// Writes down who is heard, until told to stop.
pub(super) fn listen(network: &File, ledger: &Ledger, stop: &AtomicBool) -> Result<()> {
    let socket = bind(network, true, PORT)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut data = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        let length = match socket.recv(&mut data) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error).context("a peer cannot listen"),
        };
        let text = String::from_utf8_lossy(&data[..length]);
        let Some((name, number)) = text.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        let mut ledger = lock(ledger);
        let heard = ledger.entry(name.to_owned()).or_insert(Heard { first: number, quick: 0 });
        heard.first = heard.first.min(number);
        heard.quick += u32::from(number < QUICK);
    }
    Ok(())
}

/// Sends to all addresses, over and over, and counts what comes back.
pub(super) fn sweep(network: &File, name: &str, addresses: &[Ipv4Addr], stop: &AtomicBool) -> Result<usize> {
    let socket = bind(network, true, PORT)?;
    socket.set_nonblocking(true)?;
    let (message, mut answers, mut data) = (format!("{name} 0"), 0, [0; 256]);
    while !stop.load(Ordering::Relaxed) {
        for some in addresses.chunks(4) {
            for address in some {
                // Who is not there does not answer; a full queue is no news either.
                let _ = socket.send_to(message.as_bytes(), SocketAddr::from((*address, PORT)));
            }
            while let Ok(length) = socket.recv(&mut data) {
                // An echo; a newcomer's own datagram would not be one.
                answers += usize::from(data[..length] == *message.as_bytes());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(answers)
}

pub(super) fn lock(ledger: &Ledger) -> MutexGuard<'_, HashMap<String, Heard>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
