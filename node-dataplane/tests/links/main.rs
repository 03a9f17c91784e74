//! Devices, routes and filters of a real kernel, in namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

#[path = "../common/mod.rs"]
mod common;
mod node;
mod pods;
mod untracked;
mod uplinks;

use axoneme_node::link::Links;
use axoneme_node::link::mac::Mac;
use axoneme_node::link::veth::VethSpec;
use axoneme_node::programs::Paths;
use axoneme_node::reconcile::ops::{NetworkSpec, Routing};

use crate::common::{block_on, ip, on_node, pin_trivial_programs, privileged};

/// Runs a test on a node of its own, with trivial programs pinned.
fn with_links(test: &str, scenario: impl AsyncFnOnce(Links, Paths) + Send + 'static) {
    if !privileged(test) {
        return;
    }
    on_node(|bottle| {
        pin_trivial_programs(&bottle.paths());
        block_on(async { scenario(Links::connect().unwrap(), bottle.paths()).await });
    });
}

/// A spec of a node with two families whose tunnel goes over IPv6.
fn dual_stack() -> NetworkSpec {
    NetworkSpec {
        routing: Routing::Vxlan { port: 8472 },
        node_addresses: vec![ip("fd00:2::1"), ip("192.0.2.1")],
        tunnel_end: Some(ip("fd00:2::1")),
        overlay_addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        pod_cidrs: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        mtu: 0,
    }
}

fn veth(host: &str) -> VethSpec {
    VethSpec {
        host_name: host.into(),
        pod_name: "eth0".into(),
        host_mac: Mac::derived_from("host"),
        pod_mac: Mac::derived_from("pod"),
        mtu: 1400,
        alias: "axoneme test/pod".into(),
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
