//! What the host tracks as connections, and what it does not.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use axoneme_node::link::devices::Devices;
use axoneme_node::link::uplink::Patterns;
use axoneme_node::link::{Links, sysctl};
use axoneme_node::reconcile::ops::{DeviceOps, NetworkSpec, Routing};

use crate::common::{Pod, ip};
use crate::node::uplink;
use crate::{dual_stack, run, with_links};

/// Has somebody in the underlay send this node a datagram for `target`; returns how many connections the host knows more.
fn tracked(underlay: &Pod, target: IpAddr, port: u16) -> i64 {
    let count = || {
        let connections = sysctl::get(&["netfilter", "nf_conntrack_count"]).expect("the host tracks connections");
        connections.parse::<i64>().unwrap()
    };
    let before = count();
    underlay.inside(move || {
        let any: IpAddr = if target.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        UdpSocket::bind((any, 0)).unwrap().send_to(b"?", SocketAddr::new(target, port)).unwrap();
    });
    count() - before
}

/// A node whose uplink has addresses of both families, and whose rules make the host track connections, as the kubelet's do.
async fn node(links: &Links) -> Pod {
    let underlay = Pod::new();
    uplink(links, &underlay, "192.0.2.1/24").await;
    run("ip", &["address", "add", "fd00:2::1/64", "dev", "uplink0", "nodad"]);
    // Somebody whom this node forwards to.
    run("ip", &["route", "add", "198.51.100.0/24", "dev", "uplink0"]);
    run("nft", &["add table inet host"]);
    run("nft", &["add chain inet host input { type filter hook input priority filter; }"]);
    run("nft", &["add rule inet host input ct state invalid counter"]);
    underlay.inside(|| {
        run("ip", &["link", "set", "peer0", "up"]);
        run("ip", &["address", "add", "192.0.2.2/24", "dev", "peer0"]);
        run("ip", &["address", "add", "fd00:2::2/64", "dev", "peer0", "nodad"]);
        run("ip", &["route", "add", "198.51.100.0/24", "via", "192.0.2.1"]);
    });
    underlay
}

#[test]
fn tunnel_packets_to_this_node_are_no_connections() {
    with_links("tunnel_packets_to_this_node_are_no_connections", async |links, paths| {
        let underlay = node(&links).await;
        let mut devices = Devices::new(links.clone(), paths, Patterns::default()).unwrap();
        let spec = dual_stack();
        assert_eq!(devices.apply(&spec).await.unwrap().warnings, Vec::<String>::new());
        assert_eq!(tracked(&underlay, ip("fd00:2::1"), 8472), 0);
        assert_eq!(tracked(&underlay, ip("fd00:2::1"), 8473), 1, "other packets are");

        let spec = NetworkSpec { routing: Routing::Vxlan { port: 4789 }, tunnel_end: Some(ip("192.0.2.1")), ..spec };
        devices.apply(&spec).await.unwrap();
        assert_eq!(tracked(&underlay, ip("192.0.2.1"), 4789), 0);
        assert_eq!(tracked(&underlay, ip("192.0.2.1"), 8472), 1, "it is not the tunnel's port any more");
        assert_eq!(tracked(&underlay, ip("198.51.100.9"), 4789), 1, "a tunnel of others, which the host may translate");

        // Who flushes all rules does not do away with ours for good.
        run("nft", &["flush ruleset"]);
        devices.apply(&spec).await.unwrap();
        let listed = run("nft", &["list", "table", "inet", "axoneme"]);
        assert!(listed.contains("ip daddr 192.0.2.1 udp dport 4789 notrack"), "{listed}");
        let rule = || run("nft", &["--handle", "list", "table", "inet", "axoneme"]);
        let before = rule();
        devices.apply(&spec).await.unwrap();
        assert_eq!(rule(), before, "what is right stays as it is");

        devices.apply(&NetworkSpec { routing: Routing::Native, tunnel_end: None, ..spec }).await.unwrap();
        assert_eq!(run("nft", &["list", "tables"]), "");
    });
}
