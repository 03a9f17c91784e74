//! Network namespaces, the bridge between nodes, and the nodes' uplinks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::Deserialize;

/// Where iproute2 keeps named network namespaces.
const NAMED: &str = "/run/netns";

/// Runs `ip` with arguments that are separated by spaces in `line`.
pub fn ip(line: &str) -> Result<String> {
    let output =
        Command::new("ip").args(line.split_whitespace()).output().context("cannot run ip (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file of a named network namespace.
pub fn network_namespace(name: &str) -> PathBuf {
    Path::new(NAMED).join(name)
}

/// Makes the bridge `name` with the machine's addresses.
pub fn create_bridge(name: &str, addresses: &[IpNet]) -> Result<()> {
    ip(&format!("link add {name} type bridge forward_delay 0"))?;
    for address in addresses {
        ip(&format!("addr add {address} dev {name} {}", at_once(address)))?;
    }
    ip(&format!("link set {name} up"))?;
    Ok(())
}

/// Makes the network namespace `name` and an uplink `eth0` in it, whose other end, called `name` too, is a port of
/// `bridge`. Routes lead through `gateways`.
pub fn create_node(name: &str, bridge: &str, addresses: &[IpNet], gateways: &[IpNet]) -> Result<()> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
    ip(&format!("link set {name} master {bridge} up"))?;
    ip(&format!("-n {name} link set lo up"))?;
    for address in addresses {
        ip(&format!("-n {name} addr add {address} dev eth0 {}", at_once(address)))?;
    }
    ip(&format!("-n {name} link set eth0 up"))?;
    for gateway in gateways {
        ip(&format!("-n {name} route add default via {}", gateway.addr()))?;
    }
    Ok(())
}

/// An IPv6 address waits a second for somebody who has it already; nobody has.
fn at_once(address: &IpNet) -> &'static str {
    if address.addr().is_ipv6() { "nodad" } else { "" }
}

/// Names of links of this machine that start with `prefix`.
pub fn links(prefix: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Link {
        ifname: String,
    }
    let listed = ip("-j link show").unwrap_or_default();
    let links: Vec<Link> = serde_json::from_str(&listed).unwrap_or_default();
    links.into_iter().map(|l| l.ifname).filter(|n| n.starts_with(prefix)).collect()
}

/// Names of network namespaces that start with `prefix`.
pub fn namespaces(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(NAMED).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(prefix)).collect()
}

/// Removes a link, if it is there: a veth goes with its namespace, but not at once.
pub fn remove_link(name: &str) -> Result<()> {
    match ip(&format!("link del {name}")) {
        Err(_) if !Path::new("/sys/class/net").join(name).exists() => Ok(()),
        other => other.map(drop),
    }
}

/// Removes a named network namespace.
pub fn remove_namespace(name: &str) -> Result<()> {
    ip(&format!("netns del {name}")).map(drop)
}
