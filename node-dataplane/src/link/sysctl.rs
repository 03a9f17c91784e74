//! Sysctls below `net`, in the calling thread's network namespace.

use std::fs;
use std::path::PathBuf;

use super::LinkError;

fn path(name: &[&str]) -> PathBuf {
    let mut path = PathBuf::from("/proc/sys/net");
    path.extend(name);
    path
}

/// Reads `net.<name...>`; `None` when the kernel does not have it (IPv6 switched off, say).
#[must_use]
pub fn get(name: &[&str]) -> Option<String> {
    fs::read_to_string(path(name)).ok().map(|value| value.trim().to_owned())
}

/// Makes `net.<name...>` have `value`, and writes only when it has not: /proc/sys may be read-only and right.
///
/// Parts are given one by one, because a device's name may contain dots.
///
/// # Errors
/// Naming the sysctl, when it is not so and cannot be made so.
pub fn ensure(name: &[&str], value: &'static str) -> Result<(), LinkError> {
    if get(name).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(path(name), value).map_err(|source| LinkError::Sysctl {
        name: format!("net.{}", name.join(".")),
        value,
        source,
    })
}

/// The node itself: forwards packets between pods and the world.
///
/// `uplinks` are named because forwarding would make IPv6 uplinks ignore router advertisements, from which some have their
/// default route; they are told to go on listening.
///
/// # Errors
/// Naming the sysctl that cannot be set.
pub fn prepare_node(ipv6: bool, uplinks: &[&str]) -> Result<(), LinkError> {
    ensure(&["ipv4", "ip_forward"], "1")?;
    if !ipv6 {
        return Ok(());
    }
    for uplink in uplinks {
        let accept_ra = ["ipv6", "conf", uplink, "accept_ra"];
        if get(&accept_ra).as_deref() == Some("1") {
            ensure(&accept_ra, "2")?;
        }
    }
    ensure(&["ipv6", "conf", "all", "forwarding"], "1")
}

/// A device of ours, whose packets the programs have judged already: what arrives need not be routable back through it.
///
/// The kernel takes the stricter one of a device's filter and the host's (`all`). Where the host insists on one, the loose
/// mode (2) is the only one that lets through what comes from an overlay, and other devices keep theirs.
///
/// # Errors
/// Naming the sysctl that cannot be set.
pub fn prepare_device(device: &str) -> Result<(), LinkError> {
    let strict_host = get(&["ipv4", "conf", "all", "rp_filter"]).is_some_and(|value| value != "0");
    ensure(&["ipv4", "conf", device, "rp_filter"], if strict_host { "2" } else { "0" })?;
    ensure(&["ipv4", "conf", device, "forwarding"], "1")?;
    // A pod's neighbour is never a better first hop than this node.
    ensure(&["ipv4", "conf", device, "send_redirects"], "0")
}

/// The overlay device: also packets from an address of this host are let in, as when a pod here is answered by itself through a
/// service and another node.
///
/// # Errors
/// Naming the sysctl that cannot be set.
pub fn prepare_overlay(device: &str) -> Result<(), LinkError> {
    prepare_device(device)?;
    ensure(&["ipv4", "conf", device, "accept_local"], "1")
}
