//! What pods are measured against: two plain nodes without any program of ours, and two nodes with a pod each between which
//! `bench/limit.c` forwards, the least that a data path can do. All of them hang on the cluster's own bridge beside its nodes,
//! and go with the measurement; what a crash leaves has names that `make cluster-down` knows.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::lane::{End, Lane};
use super::programs::Programs;
use crate::cgroup::Hierarchies;
use crate::cleanup;
use crate::cluster::Cluster;
use crate::link::{self, ip};
use crate::sandbox::enter_network;
use crate::state::Routing;

/// The last numbers that a node may have; a cluster that large does not fit this machine.
const PLAIN: [u8; 2] = [94, 95];
const NODES: [u8; 2] = [96, 97];
const PODS: [u8; 2] = [98, 99];
/// The pods' addresses are not the cluster's.
const POD_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 1, 2), Ipv4Addr::new(10, 9, 2, 2)];
const TUNNEL: &str = "vxlan0";
/// What VXLAN over IPv4 takes.
const OVERHEAD: u32 = 50;

/// Namespaces that are removed when this is dropped.
#[derive(Debug)]
pub(super) struct Yardsticks {
    names: Vec<String>,
}

impl Drop for Yardsticks {
    fn drop(&mut self) {
        // Removing what is left of it is also how the next one begins.
        let _ = self.names.iter().try_for_each(|name| cleanup::node(name));
    }
}

impl Yardsticks {
    /// Makes everything.
    pub(super) fn new(cluster: &Cluster, programs: &Programs, routing: Routing) -> Result<Self> {
        let all = [PLAIN, NODES, PODS].concat();
        let made = Self { names: all.iter().map(|index| cluster.folder.node_name(*index)).collect() };
        if let Some(taken) = cluster.nodes()?.iter().find(|index| all.contains(index)) {
            bail!("node {taken} has a number that measurements use");
        }
        made.names.iter().try_for_each(|name| cleanup::node(name))?;
        // Programs run in cgroups like the nodes', which have a price of their own.
        let cgroups = Hierarchies::find()?;
        made.names.iter().try_for_each(|name| cgroups.create(name))?;
        let addresses = cluster.folder.expect()?.addresses();
        for index in [PLAIN, NODES].concat() {
            let name = cluster.folder.node_name(index);
            link::create_node(&name, &cluster.folder.label(), &addresses.node(index), &addresses.machine())?;
        }
        for (number, pod) in PODS.into_iter().enumerate() {
            let (node, pod) = (cluster.folder.node_name(NODES[number]), cluster.folder.node_name(pod));
            create_pod(&node, &pod, POD_ADDRESSES[number], routing)?;
            let peer = node_address(cluster, NODES[1 - number])?;
            forward(programs, (&node, &pod), POD_ADDRESSES[number], peer, routing)?;
        }
        Ok(made)
    }

    /// From host to host, with no program of ours on the way.
    pub(super) fn host(&self, cluster: &Cluster) -> Result<Lane> {
        let end = |index| end(&cluster.folder.node_name(index));
        let address = IpAddr::V4(node_address(cluster, PLAIN[1])?);
        Ok(Lane { name: "host to host", client: end(PLAIN[0])?, server: end(PLAIN[1])?, address })
    }

    /// From pod to pod by the least that can be done.
    pub(super) fn limit(&self, cluster: &Cluster) -> Result<Lane> {
        let end = |index| end(&cluster.folder.node_name(index));
        let address = IpAddr::V4(POD_ADDRESSES[1]);
        Ok(Lane { name: "limit", client: end(PODS[0])?, server: end(PODS[1])?, address })
    }

    /// A host with itself.
    pub(super) fn loopback(&self, cluster: &Cluster) -> Result<Lane> {
        let end = || end(&cluster.folder.node_name(PLAIN[0]));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(Lane { name: "host loopback", client: end()?, server: end()?, address })
    }
}

fn end(name: &str) -> Result<End> {
    let file = link::network_namespace(name);
    let network = File::open(&file).with_context(|| format!("no network namespace {}", file.display()))?;
    Ok(End { network, cgroup: Hierarchies::find()?.system(name) })
}

/// The IPv4 address of a node of this cluster's bridge.
fn node_address(cluster: &Cluster, index: u8) -> Result<Ipv4Addr> {
    let addresses = cluster.folder.expect()?.addresses().node(index);
    let v4 = addresses.iter().find_map(|net| match net.addr() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    v4.context("the limit is measured over IPv4, which this cluster's nodes do not have")
}

/// A pod as this project makes it: its gateway is a link-local neighbour that needs no ARP, its routes have the MTU.
fn create_pod(node: &str, pod: &str, address: Ipv4Addr, routing: Routing) -> Result<()> {
    let mtu = device(node, "eth0")?.mtu - if routing == Routing::Tunnel { OVERHEAD } else { 0 };
    ip(&format!("netns add {pod}"))?;
    ip(&format!("-n {node} link add pod type veth peer name eth0 netns {pod}"))?;
    ip(&format!("-n {node} link set pod up"))?;
    let gateway = device(node, "pod")?.address;
    for line in [
        "link set lo up",
        "link set eth0 up",
        &format!("addr add {address}/32 dev eth0"),
        "route add 169.254.1.1 dev eth0 scope link",
        &format!("neigh add 169.254.1.1 lladdr {gateway} dev eth0 nud permanent"),
        &format!("route add default via 169.254.1.1 dev eth0 mtu {mtu}"),
    ] {
        ip(&format!("-n {pod} {line}"))?;
    }
    if routing == Routing::Tunnel {
        ip(&format!("-n {node} link add {TUNNEL} type vxlan external dstport 8472 nolearning"))?;
        ip(&format!("-n {node} link set {TUNNEL} arp off up"))?;
    }
    Ok(())
}

/// Attaches the programs of one node.
fn forward(
    programs: &Programs,
    (node, pod): (&str, &str),
    address: Ipv4Addr,
    peer: Ipv4Addr,
    routing: Routing,
) -> Result<()> {
    let mac = device(pod, "eth0")?.address;
    let mac: Vec<_> = mac.split(':').map(|byte| format!("0x{byte}")).collect();
    let index = |name: &str| anyhow::Ok(device(node, name)?.ifindex.to_string());
    let tunnel = if routing == Routing::Tunnel { index(TUNNEL)? } else { "0".to_owned() };
    let constants = [
        ("PEER_NODE", u32::from(peer).to_string()),
        ("POD", u32::from(address).to_string()),
        ("POD_MAC", mac.join(",")),
        ("UPLINK", index("eth0")?),
        ("TUNNEL", tunnel),
        ("POD_DEVICE", index("pod")?),
    ];
    let object = programs.kernel("limit", node, &constants)?;
    let object = object.display();
    let (out, from) = match routing {
        Routing::Tunnel => ("classifier/from_pod_tunnel", TUNNEL),
        Routing::Native => ("classifier/from_pod_native", "eth0"),
    };
    for (device, section) in [("pod", out), (from, "classifier/to_pod")] {
        tc(node, &format!("qdisc add dev {device} clsact"))?;
        tc(node, &format!("filter add dev {device} ingress bpf direct-action object-file {object} section {section}"))?;
    }
    Ok(())
}

fn tc(node: &str, line: &str) -> Result<()> {
    let mut command = Command::new("tc");
    enter_network(&mut command, File::open(link::network_namespace(node))?);
    let output = command.args(line.split_whitespace()).output().context("cannot run tc (package iproute2)")?;
    if !output.status.success() {
        bail!("tc {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Device {
    ifindex: u32,
    address: String,
    mtu: u32,
}

fn device(namespace: &str, name: &str) -> Result<Device> {
    let listed: Vec<Device> = serde_json::from_str(&ip(&format!("-n {namespace} -j link show dev {name}"))?)?;
    listed.into_iter().next().with_context(|| format!("there is no device {name} in {namespace}"))
}
