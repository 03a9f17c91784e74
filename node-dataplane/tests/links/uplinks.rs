//! What traffic leaves with by the devices of a real kernel, and which addresses are the host's, as devices and addresses come
//! and go.

use std::time::Duration;

use axoneme_node::link::devices::Devices;
use axoneme_node::link::monitor::Monitor;
use axoneme_node::link::uplink::Patterns;
use axoneme_node::reconcile::ops::{DeviceOps, NetworkSpec, NetworkState, Routing, UplinkAddresses};

use crate::common::ip;
use crate::{dual_stack, with_links};

fn run(arguments: &str) {
    crate::run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
}

fn device(name: &str, addresses: &[&str]) {
    run(&format!("link add {name} type veth peer name {name}-far"));
    run(&format!("link set {name}-far up"));
    run(&format!("link set {name} up"));
    for address in addresses {
        run(&format!("address add {address} dev {name}"));
    }
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// The devices of a node, looked at whenever the kernel tells of a change.
struct Node {
    devices: Devices,
    monitor: Monitor,
    spec: NetworkSpec,
}

impl Node {
    /// Looks until what leaves by devices is this: a change may be told in parts.
    async fn leaves(&mut self, what: &str, wanted: &[(u32, &[&str])]) -> NetworkState {
        let own = |(device, addresses): &(u32, &[&str])| UplinkAddresses {
            device: *device,
            addresses: addresses.iter().map(|address| ip(address)).collect(),
        };
        let wanted: Vec<UplinkAddresses> = wanted.iter().map(own).collect();
        let mut found = None;
        for _ in 0..10 {
            let told = tokio::time::timeout(Duration::from_secs(5), self.monitor.changed()).await;
            told.unwrap_or_else(|_| panic!("{what}: nothing more is told after {found:?}")).unwrap();
            match self.devices.apply(&self.spec).await {
                Ok(state) if state.uplinks == wanted => return state,
                other => found = Some(other),
            }
        }
        panic!("{what}: {found:?}");
    }
}

#[test]
fn traffic_leaves_by_each_uplink_with_what_that_holds_at_the_time() {
    with_links("traffic_leaves_by_each_uplink_with_what_that_holds_at_the_time", async |links, paths| {
        let mut node = Node {
            devices: Devices::new(links, paths, Patterns::default()).unwrap(),
            monitor: Monitor::new().unwrap(),
            spec: NetworkSpec {
                routing: Routing::Native,
                node_addresses: vec![ip("192.0.2.1"), ip("2001:db8::1")],
                tunnel_end: None,
                overlay_addresses: vec![],
                ..dual_stack()
            },
        };
        // Another address came first, and is the kernel's choice.
        device("eth0", &["192.0.2.77/24", "192.0.2.1/24", "2001:db8::1/64 nodad"]);
        let first = (index("eth0"), &["192.0.2.1", "2001:db8::1"][..]);
        node.leaves("the node's own addresses", &[first]).await;

        device("eth1", &["198.51.100.1/24", "203.0.113.1/24"]);
        run("route add default via 203.0.113.254 dev eth1 metric 4000");
        let second = index("eth1");
        let state = node.leaves("a second uplink", &[first, (second, &["203.0.113.1"])]).await;
        let host = ["192.0.2.1", "192.0.2.77", "198.51.100.1", "203.0.113.1", "2001:db8::1"].map(ip);
        assert_eq!(state.host_addresses, host);

        run("route replace default via 203.0.113.254 dev eth1 metric 4000 src 198.51.100.1");
        node.leaves("as its route says", &[first, (second, &["198.51.100.1"])]).await;
        run("address add 2001:db8:1::1/64 dev eth1 nodad");
        node.leaves("two families", &[first, (second, &["198.51.100.1", "2001:db8:1::1"])]).await;
        run("address add 2001:db8:2::1/64 dev eth1 nodad");
        run("address change 2001:db8:2::1/64 dev eth1 preferred_lft 0");
        run("address del 2001:db8:1::1/64 dev eth1");
        node.leaves("a deprecated one, if need be", &[first, (second, &["198.51.100.1", "2001:db8:2::1"])]).await;

        run("link set eth1 down");
        run("link set eth1 name lan0");
        run("link set lan0 up");
        // Its routes went with its being up, and with them what made it an uplink.
        node.leaves("down", &[first]).await;
        run("route add default via 203.0.113.254 dev lan0 metric 4000");
        node.leaves("by another name", &[first, (second, &["203.0.113.1"])]).await;

        run("link del lan0");
        let state = node.leaves("it is gone", &[first]).await;
        assert_eq!(state.host_addresses, ["192.0.2.1", "192.0.2.77", "2001:db8::1"].map(ip));
    });
}
