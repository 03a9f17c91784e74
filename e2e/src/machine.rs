//! What the machine itself must offer.

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

/// Whether a program is found by its name.
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(known).any(|dir| dir.join(program).is_file())
}
