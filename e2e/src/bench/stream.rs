//! A steady stream of datagrams, one a millisecond, whose losses are counted.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

use crate::process::wait_until;
use crate::thread::join;

const EVERY: Duration = Duration::from_millis(1);
const PORT: u16 = 7100;
/// Seconds of datagrams: the receiver may be kept from the CPU for as long.
const BUFFER: usize = 8 << 20;

/// From one network namespace to another.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) from: File,
    pub(super) to: File,
    pub(super) target: std::net::IpAddr,
}

/// What became of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// By how much the sender was ever late, because it did not get a CPU.
    pub(super) late: Duration,
}

/// Does `work` while streams flow on all ways: from when the first datagram of each has arrived until it is done.
pub(super) fn during<T>(ways: &[Way], work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Counted>)> {
    let (stop, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stop, arrived) = (&stop, &arrived);
        let threads: Vec<_> = ways
            .iter()
            .map(|way| {
                let receiver = scope.spawn(move || receive(way, arrived, stop));
                let sender = scope.spawn(move || send(way, stop));
                (sender, receiver)
            })
            .collect();
        let all = ways.len() as u64;
        let flows = wait_until(Duration::from_secs(30), || arrived.load(Ordering::Relaxed) == all);
        let done = if flows { work() } else { Err(anyhow::anyhow!("datagrams do not arrive")) };
        stop.store(true, Ordering::Relaxed);
        let mut counted = Vec::new();
        for (sender, receiver) in threads {
            let (sent, late) = join(sender)?;
            let received = join(receiver);
            // What went wrong before says more.
            let Ok(received) = received else { continue };
            counted.push(count(sent, late, &received));
        }
        let done = done?;
        if counted.len() < ways.len() {
            bail!("a receiver failed");
        }
        Ok((done, counted))
    })
}

/// Losses count from the first datagram that arrived.
fn count(sent: u64, late: Duration, received: &HashSet<u64>) -> Counted {
    let first = received.iter().min().copied().unwrap_or(0);
    let counted = sent.saturating_sub(first);
    Counted { sent: counted, lost: counted.saturating_sub(received.len() as u64), late }
}

fn send(way: &Way, stop: &AtomicBool) -> Result<(u64, Duration)> {
    let socket = bind(&way.from, way.target.is_ipv4(), 0)?;
    let (begin, mut late) = (Instant::now(), Duration::ZERO);
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return Ok((number, late));
        }
        let due = begin + EVERY * u32::try_from(number).context("too long a stream")?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        late = late.max(due.elapsed());
        // One that cannot be sent does not arrive, and counts as lost.
        let _ = socket.send_to(&number.to_be_bytes(), SocketAddr::new(way.target, PORT));
    }
    bail!("the stream has no end")
}

fn receive(way: &Way, arrived: &AtomicU64, stop: &AtomicBool) -> Result<HashSet<u64>> {
    let socket = bind(&way.to, way.target.is_ipv4(), PORT)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut received = HashSet::new();
    loop {
        let mut number = [0; 8];
        match socket.recv(&mut number) {
            Ok(8) => {
                if received.is_empty() {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
                received.insert(u64::from_be_bytes(number));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(received);
                }
            }
            Err(error) => return Err(error).context("the receiver of a stream"),
        }
    }
}

/// A UDP socket in a network namespace, which the calling thread stays in.
pub(super) fn bind(network: &File, v4: bool, port: u16) -> Result<UdpSocket> {
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    let any = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind(SocketAddr::new(any, port)).with_context(|| format!("cannot use UDP port {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_after_the_first_is_lost() {
        let counted = count(10, Duration::ZERO, &HashSet::from([3, 4, 6, 7, 9]));
        assert_eq!((counted.sent, counted.lost), (7, 2));
    }

    #[test]
    fn a_stream_over_the_loopback_device_loses_nothing() {
        let own = || File::open("/proc/thread-self/ns/net").unwrap();
        let way = Way { from: own(), to: own(), target: Ipv4Addr::LOCALHOST.into() };
        let ((), counted) = during(&[way], || {
            std::thread::sleep(Duration::from_millis(100));
            Ok(())
        })
        .unwrap();
        assert!(counted[0].sent >= 50, "{counted:?}");
        assert_eq!(counted[0].lost, 0);
    }
}
