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
/// Naming the sysctl, what it is and what it must be, when it is not so and cannot be made so.
pub fn ensure(name: &[&str], value: &'static str) -> Result<(), LinkError> {
    let found = get(name);
    if found.as_deref() == Some(value) {
        return Ok(());
    }
    let refused = |source| LinkError::Sysctl {
        name: format!("net.{}", name.join(".")),
        found: found.clone().unwrap_or_else(|| "missing".to_owned()),
        value,
        source,
    };
    fs::write(path(name), value).map_err(refused)?;
    tracing::debug!(sysctl = name.join("."), found = found.as_deref(), value, "sysctl set");
    Ok(())
}

/// Which families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// Pods have IPv4 addresses.
    pub ipv4: bool,
    /// Pods have IPv6 addresses.
    pub ipv6: bool,
}

/// The node itself: forwards packets between pods and the world. Returns what is refused, one by one.
///
/// Forwarding would make IPv6 devices ignore router advertisements, from which some have their addresses and default routes.
/// `listening` are those on which it must not: they are told to go on, before the kernel throws away what they learnt.
#[must_use]
pub fn prepare_node(families: Families, listening: &[&str]) -> Vec<LinkError> {
    let mut refused = Vec::new();
    if families.ipv4 {
        refused.extend(ensure(&["ipv4", "ip_forward"], "1").err());
    }
    if families.ipv6 {
        for device in listening {
            let accept_ra = ["ipv6", "conf", device, "accept_ra"];
            if get(&accept_ra).as_deref() == Some("1") {
                refused.extend(ensure(&accept_ra, "2").err());
            }
        }
        refused.extend(ensure(&["ipv6", "conf", "all", "forwarding"], "1").err());
    }
    refused
}

/// A device through which pods' packets come and go.
///
/// An administrator may have switched off forwarding for one device alone.
#[must_use]
pub fn prepare_uplink(device: &str, families: Families) -> Vec<LinkError> {
    let mut refused = Vec::new();
    if families.ipv4 {
        refused.extend(ensure(&["ipv4", "conf", device, "forwarding"], "1").err());
    }
    if families.ipv6 {
        refused.extend(ensure(&["ipv6", "conf", device, "forwarding"], "1").err());
    }
    refused
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

/// Lets a device of ours have IPv6 addresses and routes and forward, where devices are made without.
///
/// # Errors
/// Naming the sysctl, also when the kernel was started without IPv6.
pub fn enable_ipv6(device: &str) -> Result<(), LinkError> {
    ensure(&["ipv6", "conf", device, "disable_ipv6"], "0")?;
    ensure(&["ipv6", "conf", device, "forwarding"], "1")
}

/// The overlay device: also packets from an address of this host are let in, as when a pod here is answered by itself through a
/// service and another node.
///
/// # Errors
/// Naming the sysctl that cannot be set.
pub fn prepare_overlay(device: &str, families: Families) -> Result<(), LinkError> {
    if families.ipv6 {
        enable_ipv6(device)?;
    }
    prepare_device(device)?;
    ensure(&["ipv4", "conf", device, "accept_local"], "1")
}
