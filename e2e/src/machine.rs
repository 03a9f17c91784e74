//! What the machine itself must offer.

use std::time::Duration;

use anyhow::{Result, bail};

/// inotify instances that a few kubelets, container runtimes and daemons need together; 128 is the kernel's default.
const INOTIFY_INSTANCES: u32 = 1024;

/// Fails early, and in words, where a cluster could not run. Raises the limit on inotify instances where it is low.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("nodes are made of namespaces, mounts and cgroups: run this as root");
    }
    for program in ["ip", "containerd", "ctr", "runc", "iptables"] {
        if !in_path(program) {
            bail!("there is no {program} on this machine; run `make deps`");
        }
    }
    let limit = "/proc/sys/fs/inotify/max_user_instances";
    let current: u32 = std::fs::read_to_string(limit)?.trim().parse()?;
    if current < INOTIFY_INSTANCES {
        std::fs::write(limit, INOTIFY_INSTANCES.to_string())?;
    }
    Ok(())
}

/// Waits until the machine does next to nothing for a second, because what was removed is cleaned up by the kernel and container
/// runtimes for a while; gives up after half a minute.
pub fn rest() -> Result<()> {
    let mut before = busy()?;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_secs(1));
        let now = busy()?;
        let (work, all) = (now.0 - before.0, now.1 - before.1);
        if work * 4 < all {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// Ticks of all CPUs so far, those of work at first. What only uses idle time (niced) is no work.
fn busy() -> Result<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> = stat.lines().next().unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    let [user, nice, system, idle, wait, interrupts, soft, ..] = ticks[..] else { bail!("/proc/stat has no CPUs") };
    let work = user + system + interrupts + soft;
    Ok((work, work + nice + idle + wait))
}

/// Whether a program is found by its name.
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(known).any(|dir| dir.join(program).is_file())
}
