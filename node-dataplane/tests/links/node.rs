//! The node's own devices, routes and neighbours.

use std::os::fd::AsFd;
use std::time::Duration;

use axoneme_node::link::device::Device;
use axoneme_node::link::devices::Devices;
use axoneme_node::link::filter::Direction;
use axoneme_node::link::monitor::Monitor;
use axoneme_node::link::route::{Owner, RouteEntry};
use axoneme_node::link::uplink::Patterns;
use axoneme_node::link::veth::VethSpec;
use axoneme_node::link::{Links, OVERLAY_DEVICE, sysctl};
use axoneme_node::maps::bpf;
use axoneme_node::programs::attach::{Attacher, UPLINK};
use axoneme_node::reconcile::ops::{DeviceOps, NetworkSpec, NextHop, OnLink, Route, Routing};

use crate::common::{Pod, ip, names, pin_trivial_programs};
use crate::{dual_stack, run, veth, with_links};

/// An uplink for tests: one end of a veth whose other end is a namespace that plays the underlay.
pub(crate) async fn uplink(links: &Links, underlay: &Pod, address: &str) -> Device {
    let spec = VethSpec { host_name: "uplink0".into(), pod_name: "peer0".into(), mtu: 1500, ..veth("") };
    let device = links.create_veth(&spec, &underlay.namespace()).await.unwrap();
    run("ip", &["link", "set", "uplink0", "up"]);
    run("ip", &["address", "add", address, "dev", "uplink0"]);
    device
}

/// A spec of a node that has an address of IPv4 only, over which its tunnel goes.
fn over_ipv4() -> NetworkSpec {
    NetworkSpec { node_addresses: vec![ip("192.0.2.1")], tunnel_end: Some(ip("192.0.2.1")), ..dual_stack() }
}

#[test]
fn routes_become_exactly_those_wanted_and_those_of_others_stay() {
    with_links("routes_become_exactly_those_wanted_and_those_of_others_stay", async |links, _| {
        let underlay = Pod::new();
        let device = uplink(&links, &underlay, "192.0.2.1/24").await.index;
        run("ip", &["address", "add", "10.0.0.1/32", "dev", "uplink0"]);
        run("ip", &["route", "add", "198.51.100.0/24", "dev", "uplink0"]);
        let direct = |cidr: &str| RouteEntry::direct(cidr.parse().unwrap(), device);
        let first = [
            RouteEntry { source: Some(ip("10.0.0.1")), ..direct("10.1.0.0/24") },
            direct("fd01::/64"),
            RouteEntry::unreachable("10.0.0.0/24".parse().unwrap()),
            RouteEntry::unreachable("fd00::/64".parse().unwrap()),
        ];
        let same = |have: &[RouteEntry], want: &[RouteEntry]| {
            have.len() == want.len() && want.iter().all(|route| have.contains(route))
        };
        for _ in 0..2 {
            let failed = links.sync_routes(Owner::Node, &first).await.unwrap();
            assert!(failed.is_empty(), "{failed:?}");
            let have = links.routes(Owner::Node).await.unwrap();
            assert!(same(&have, &first), "{have:?}");
        }
        let second = [
            RouteEntry { gateway: Some(ip("192.0.2.9")), ..direct("10.1.0.0/24") },
            direct("10.2.0.0/24"),
            // Not possible: no such source.
            RouteEntry { source: Some(ip("10.0.0.77")), ..direct("10.3.0.0/24") },
        ];
        let failed = links.sync_routes(Owner::Node, &second).await.unwrap();
        let texts: Vec<_> = failed.iter().map(|(_, error)| error.to_string()).collect();
        assert_eq!(texts, ["cannot set route to 10.3.0.0/24"]);
        let have = links.routes(Owner::Node).await.unwrap();
        assert!(same(&have, &second[..2]), "{have:?}");
        assert!(run("ip", &["route"]).contains("198.51.100.0/24"));
    });
}

#[test]
fn the_nodes_devices_follow_the_spec() {
    with_links("the_nodes_devices_follow_the_spec", async |links, paths| {
        let mut devices = Devices::new(links.clone(), paths.clone(), Patterns::default()).unwrap();
        let mut spec = over_ipv4();
        let error = devices.apply(&spec).await.unwrap_err();
        assert!(error.what.starts_with("no device has the node's address 192.0.2.1"), "{}", error.what);
        let route = Route { cidr: "10.1.0.0/24".parse().unwrap(), via: None };
        assert_eq!(devices.routes(&[route]).await.len(), 1);

        let underlay = Pod::new();
        let uplink = uplink(&links, &underlay, "192.0.2.1/24").await;
        let state = devices.apply(&spec).await.unwrap();
        let overlay = links.device(OVERLAY_DEVICE).await.unwrap().unwrap();
        assert_eq!((state.tunnel_ifindex, state.uplink_ifindex), (overlay.index, uplink.index));
        assert_eq!((state.uplink_mtu, state.pod_mtu, overlay.mtu), (1500, 1450, 1450));
        assert_eq!(state.host_addresses, [ip("192.0.2.1")]);
        assert!(overlay.up && overlay.noarp);
        let pins = names(&paths.links());
        assert_eq!(pins.len(), 4, "{pins:?}");
        assert_eq!(sysctl::get(&["ipv4", "ip_forward"]).as_deref(), Some("1"));

        assert!(devices.routes(&[route]).await.is_empty());
        let routes = run("ip", &["route"]);
        assert!(routes.contains("10.1.0.0/24 dev axoneme_vxlan proto 201 scope link src 10.0.0.1"), "{routes}");
        assert!(routes.contains("unreachable 10.0.0.0/24"), "{routes}");

        // Again: nothing is made anew, and a newer program takes over.
        pin_trivial_programs(&paths);
        assert_eq!(devices.apply(&spec).await.unwrap(), state);
        let link = bpf::open_pinned(&paths.links().join(format!("from_uplink_{}", uplink.index))).unwrap();
        let info = axoneme_node::programs::syscall::link_info(link.as_fd()).unwrap();
        let newer = bpf::open_pinned(&paths.programs().join("from_uplink")).unwrap();
        assert_eq!(info.program, axoneme_node::programs::syscall::program_info(newer.as_fd()).unwrap().id);

        // Another port needs another device; its programs follow.
        spec.routing = Routing::Vxlan { port: 4789 };
        spec.mtu = 1300;
        let moved = devices.apply(&spec).await.unwrap();
        assert_ne!(moved.tunnel_ifindex, state.tunnel_ifindex);
        assert_eq!(moved.pod_mtu, 1300);
        assert_eq!(names(&paths.links()).len(), 4);

        spec.routing = Routing::Native;
        spec.tunnel_end = None;
        spec.mtu = 0;
        let native = devices.apply(&spec).await.unwrap();
        assert_eq!((native.tunnel_ifindex, native.pod_mtu), (0, 1500));
        assert_eq!(links.device(OVERLAY_DEVICE).await.unwrap(), None);
        assert_eq!(names(&paths.links()).len(), 2);
        let via = NextHop { address: ip("192.0.2.2"), device: uplink.index };
        let via = Route { cidr: "10.1.0.0/24".parse().unwrap(), via: Some(via) };
        assert!(devices.routes(&[via]).await.is_empty());
        assert!(run("ip", &["route"]).contains("10.1.0.0/24 via 192.0.2.2 dev uplink0 proto 201"));
    });
}

#[test]
fn without_tcx_devices_are_attached_to_by_clsact() {
    with_links("without_tcx_devices_are_attached_to_by_clsact", async |links, paths| {
        let underlay = Pod::new();
        let device = uplink(&links, &underlay, "192.0.2.1/24").await;
        let attacher = Attacher::without_tcx(paths.clone(), links.clone());
        let id = |name: &str| {
            let program = bpf::open_pinned(&paths.programs().join(name)).unwrap();
            axoneme_node::programs::syscall::program_info(program.as_fd()).unwrap().id
        };
        for _ in 0..2 {
            attacher.attach(&device, &UPLINK).await.unwrap();
            for (direction, name) in UPLINK {
                assert_eq!(links.filter(device.index, direction).await.unwrap(), Some(id(name)));
            }
            // The next round meets a newer version.
            pin_trivial_programs(&paths);
        }
        attacher.detach_others(&[device.index]).await.unwrap();
        assert!(links.filter(device.index, Direction::Egress).await.unwrap().is_some());
        attacher.detach_others(&[]).await.unwrap();
        assert_eq!(links.filter(device.index, Direction::Egress).await.unwrap(), None);
        assert_eq!(names(&paths.links()), Vec::<String>::new());
    });
}

#[test]
fn a_dual_stack_node_tunnels_over_ipv6_and_goes_on_listening_to_routers() {
    with_links("a_dual_stack_node_tunnels_over_ipv6_and_goes_on_listening_to_routers", async |links, paths| {
        // As on hosts where an administrator switched IPv6 off for devices to come.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let underlay = Pod::new();
        let uplink = uplink(&links, &underlay, "192.0.2.1/24").await;
        std::fs::write("/proc/sys/net/ipv6/conf/uplink0/disable_ipv6", "0").unwrap();
        run("ip", &["address", "add", "fd00:2::1/64", "dev", "uplink0", "nodad"]);
        // What a router announced would be forgotten when forwarding begins.
        run("ip", &["-6", "route", "add", "default", "via", "fd00:2::fe", "proto", "ra", "dev", "uplink0"]);

        let mut devices = Devices::new(links.clone(), paths, Patterns::default()).unwrap();
        let state = devices.apply(&dual_stack()).await.unwrap();
        assert_eq!(state.refused, Vec::<String>::new());
        assert_eq!((state.uplink_ifindex, state.pod_mtu), (uplink.index, 1430));
        assert_eq!(state.host_addresses, [ip("192.0.2.1"), ip("fd00:2::1")], "no link-local ones");
        let on_link = |prefix: &str| OnLink { prefix: prefix.parse().unwrap(), device: uplink.index };
        assert_eq!(state.on_link, [on_link("fd00:2::/64"), on_link("192.0.2.0/24")]);
        assert_eq!(state.gateways, [NextHop { address: ip("fd00:2::fe"), device: uplink.index }]);
        for (sysctl, value) in [("all/forwarding", "1"), ("uplink0/accept_ra", "2"), ("axoneme_vxlan/forwarding", "1")]
        {
            let is = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{sysctl}")).unwrap();
            assert_eq!(is.trim(), value, "{sysctl}");
        }
        let overlay = run("ip", &["-o", "address", "show", "dev", OVERLAY_DEVICE]);
        assert!(overlay.contains("fd00::1/128") && overlay.contains("10.0.0.1/32"), "{overlay}");
        assert!(!overlay.contains("fe80") && !overlay.contains("tentative"), "{overlay}");

        let route = |cidr: &str| Route { cidr: cidr.parse().unwrap(), via: None };
        let failed = devices.routes(&[route("10.1.0.0/24"), route("fd00:0:0:1::/64")]).await;
        assert!(failed.is_empty(), "{failed:?}");
        let routes = run("ip", &["-6", "route"]);
        assert!(routes.contains("fd00:0:0:1::/64 dev axoneme_vxlan proto 201 src fd00::1"), "{routes}");
        assert!(routes.contains("default via fd00:2::fe dev uplink0"), "{routes}");
    });
}

#[test]
fn next_hops_are_kept_resolved_by_the_kernel() {
    with_links("next_hops_are_kept_resolved_by_the_kernel", async |links, _| {
        let underlay = Pod::new();
        let device = uplink(&links, &underlay, "192.0.2.1/24").await.index;
        underlay.inside(|| {
            run("ip", &["link", "set", "peer0", "up"]);
            run("ip", &["address", "add", "192.0.2.2/24", "dev", "peer0"]);
        });
        run("ip", &["neighbour", "add", "192.0.2.7", "lladdr", "02:00:00:00:00:07", "dev", "uplink0"]);
        let hop = |address: &str| NextHop { address: ip(address), device };
        for _ in 0..2 {
            links.sync_managed(&[hop("192.0.2.2"), hop("192.0.2.3")]).await.unwrap();
        }
        // Nobody sent a packet, and still:
        let resolved = || {
            let neighbours = run("ip", &["neighbour", "show", "dev", "uplink0"]);
            neighbours.lines().any(|line| line.starts_with("192.0.2.2 lladdr")).then_some(neighbours)
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let neighbours = loop {
            match resolved() {
                Some(neighbours) => break neighbours,
                None => assert!(std::time::Instant::now() < deadline, "not resolved"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(neighbours.contains("192.0.2.3 "), "{neighbours}");
        links.sync_managed(&[hop("192.0.2.2")]).await.unwrap();
        let neighbours = run("ip", &["neighbour", "show", "dev", "uplink0", "nud", "all"]);
        assert!(!neighbours.contains("192.0.2.3 ") || neighbours.contains("192.0.2.3 FAILED"), "{neighbours}");
        assert!(neighbours.contains("192.0.2.7 "), "{neighbours}");
    });
}

#[test]
fn devices_that_appear_vanish_or_change_are_told_and_followed() {
    with_links("devices_that_appear_vanish_or_change_are_told_and_followed", async |links, paths| {
        let underlay = Pod::new();
        let first = uplink(&links, &underlay, "192.0.2.1/24").await;
        let patterns = Patterns::new(vec!["lan+".into()]);
        let mut devices = Devices::new(links.clone(), paths.clone(), patterns).unwrap();
        let spec = over_ipv4();
        let mut monitor = Monitor::new().unwrap();
        let mut told = async || tokio::time::timeout(Duration::from_secs(1), monitor.changed()).await.unwrap().unwrap();
        devices.apply(&spec).await.unwrap();
        told().await;
        let attached = |index: u32| names(&paths.links()).contains(&format!("from_uplink_{index}"));
        assert!(attached(first.index));

        // Another uplink, then its name is none of an uplink any more.
        run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "far0"]);
        told().await;
        devices.apply(&spec).await.unwrap();
        let lan = links.device("lan0").await.unwrap().unwrap();
        assert!(attached(lan.index) && attached(first.index));
        run("ip", &["link", "set", "lan0", "name", "other0"]);
        told().await;
        devices.apply(&spec).await.unwrap();
        assert!(!attached(lan.index));

        // MTU, addresses.
        run("ip", &["link", "set", "uplink0", "mtu", "1400"]);
        run("ip", &["address", "add", "192.0.2.77/24", "dev", "uplink0"]);
        told().await;
        let state = devices.apply(&spec).await.unwrap();
        assert_eq!((state.pod_mtu, state.host_addresses), (1350, vec![ip("192.0.2.1"), ip("192.0.2.77")]));
        assert_eq!(links.device(OVERLAY_DEVICE).await.unwrap().unwrap().mtu, 1350);

        // Somebody takes a route of ours, and the overlay device.
        let route = Route { cidr: "10.1.0.0/24".parse().unwrap(), via: None };
        assert!(devices.routes(&[route]).await.is_empty());
        while tokio::time::timeout(Duration::from_millis(300), monitor.changed()).await.is_ok() {}
        let mut told = async || tokio::time::timeout(Duration::from_secs(1), monitor.changed()).await.unwrap().unwrap();
        run("ip", &["route", "del", "10.1.0.0/24"]);
        told().await;
        assert!(devices.routes(&[route]).await.is_empty());
        assert!(run("ip", &["route"]).contains("10.1.0.0/24"));
        run("ip", &["link", "del", OVERLAY_DEVICE]);
        told().await;
        devices.apply(&spec).await.unwrap();
        assert!(devices.routes(&[route]).await.is_empty());
        assert!(run("ip", &["route"]).contains("10.1.0.0/24 dev axoneme_vxlan"));

        // The uplink is made anew, as by a driver's reset.
        run("ip", &["link", "del", "uplink0"]);
        told().await;
        assert!(devices.apply(&spec).await.is_err());
        let underlay = Pod::new();
        let again = uplink(&links, &underlay, "192.0.2.1/24").await;
        told().await;
        devices.apply(&spec).await.unwrap();
        assert!(attached(again.index) && (again.index == first.index || !attached(first.index)));
    });
}

#[test]
fn sysctls_that_cannot_be_set_are_refused_by_name() {
    with_links("sysctls_that_cannot_be_set_are_refused_by_name", async |links, paths| {
        let underlay = Pod::new();
        let _uplink = uplink(&links, &underlay, "192.0.2.1/24").await;
        run("mount", &["--bind", "/proc/sys/net", "/proc/sys/net"]);
        run("mount", &["-o", "remount,bind,ro", "/proc/sys/net"]);
        let mut devices = Devices::new(links.clone(), paths, Patterns::default()).unwrap();
        let spec = NetworkSpec { routing: Routing::Native, tunnel_end: None, ..dual_stack() };
        let state = devices.apply(&spec).await.unwrap();
        run("umount", &["/proc/sys/net"]);
        let refusal = state.refused.iter().find(|refusal| refusal.contains("ip_forward")).unwrap();
        assert!(refusal.starts_with("sysctl net.ipv4.ip_forward is 0 and must be 1: set it on the host"), "{refusal}");
        assert!(refusal.contains("Read-only file system"), "{refusal}");
        assert!(state.refused.iter().any(|refusal| refusal.contains("net.ipv6.conf.all.forwarding")), "{state:?}");
        assert_eq!(devices.apply(&spec).await.unwrap().refused, Vec::<String>::new());
    });
}
