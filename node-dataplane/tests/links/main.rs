//! Devices, routes and filters of a real kernel, in namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

#[path = "../common/mod.rs"]
mod common;
mod node;
mod pods;
mod uplinks;

use axoneme_node::link::mac::Mac;
use axoneme_node::link::veth::VethSpec;

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
