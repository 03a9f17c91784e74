//! Two nodes of namespaces, veth and VXLAN, with the addresses of [`Net`](super::node::Net).

use std::net::IpAddr;

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::inet::Inet;
use axoneme_bpf::programs::{FROM_OVERLAY, FROM_POD, FROM_UPLINK, TO_OVERLAY, TO_POD, TO_UPLINK};
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc};

use super::kernel::Kernel;
use super::netns::Netns;
use super::node::{self, Net};

/// An uplink of 1500 less what VXLAN over IPv6 takes.
pub const MTU: u32 = 1430;

/// A pod: where its processes run.
pub struct Pod {
    pub netns: Netns,
    pub ifindex: u32,
    pub endpoint: Endpoint,
}

/// A node: where its host's processes run, and its programs.
pub struct Node {
    pub netns: Netns,
    pub kernel: Kernel,
}

/// How pods of one node reach those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    Vxlan,
    /// By the tunnel's device and the hosts' routes: the nodes are not known as neighbours.
    VxlanRouted,
    /// Native, and nobody but the programs knows how: the hosts have no routes to pods and do not forward at all.
    Direct,
    /// Native, by the hosts' routes. What comes from the uplink is not forwarded by the stack.
    Routed,
}

/// `here` has the pods client and server, `there` has the pod remote.
pub struct Cluster {
    pub here: Node,
    pub there: Node,
    pub client: Pod,
    pub server: Pod,
    pub remote: Pod,
}

/// The addresses of a node: host, overlay, and the other node's pod prefix.
struct Addresses {
    host: fn(Net) -> IpAddr,
    overlay: fn(Net) -> IpAddr,
    other_host: fn(Net) -> IpAddr,
    other_pods: fn(Net) -> IpAddr,
}

fn attach(kernel: &mut Kernel, name: &str, device: &str, hook: TcAttachType, options: TcAttachOptions) {
    let program: &mut SchedClassifier = kernel.ebpf.program_mut(name).unwrap().try_into().unwrap();
    program.attach_with_options(device, hook, options).unwrap();
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn set_up(addresses: &Addresses, routing: Routing) -> Node {
    let netns = Netns::new();
    let forwarding = if routing == Routing::Direct { "0" } else { "1" };
    netns.sysctl("ipv4/ip_forward", forwarding);
    netns.sysctl("ipv6/conf/all/forwarding", forwarding);
    for device in ["all", "default"] {
        netns.sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0");
    }
    // An address that is still being probed would not answer for a second.
    netns.sysctl("ipv6/conf/default/accept_dad", "0");
    netns.ip("link add ax_vxlan type vxlan external dstport 8472 nolearning udp6zerocsumrx");
    netns.ip(&format!("link set ax_vxlan mtu {MTU} arp off up"));
    for net in Net::BOTH {
        netns.ip(&format!("addr add {}/{} dev ax_vxlan nodad", (addresses.overlay)(net), net.bits()));
    }
    let kernel = Kernel::with(&[FROM_POD, TO_POD, FROM_UPLINK, TO_UPLINK, FROM_OVERLAY, TO_OVERLAY]);
    Node { netns, kernel }
}

/// What needs both ends of the wire: routes, programs, rows.
fn connect(node: &mut Node, addresses: &Addresses, routing: Routing) {
    node.netns.ip("link set uplink0 up");
    if routing == Routing::Routed {
        for family in ["ipv4", "ipv6"] {
            node.netns.sysctl(&format!("{family}/conf/uplink0/forwarding"), "0");
        }
    }
    for net in Net::BOTH {
        let (host, overlay, pods) = ((addresses.host)(net), (addresses.overlay)(net), (addresses.other_pods)(net));
        let (host_length, pods_length) = if net == Net::V4 { (24, 24) } else { (64, 64) };
        node.netns.ip(&format!("addr add {host}/{host_length} dev uplink0 nodad"));
        let prefix = Inet::from(pods).masked(pods_length);
        let prefix = prefix.to_ip(axoneme_bpf::inet::Family::of(pods)).unwrap();
        match routing {
            Routing::Vxlan | Routing::VxlanRouted => {
                node.netns.ip(&format!("route add {prefix}/{pods_length} dev ax_vxlan src {overlay}"))
            }
            Routing::Routed => {
                node.netns.ip(&format!("route add {prefix}/{pods_length} via {}", (addresses.other_host)(net)))
            }
            Routing::Direct => {}
        }
    }
    let Node { netns, kernel } = node;
    netns.run(|| {
        let tcx = || TcAttachOptions::TcxOrder(LinkOrder::default());
        attach(kernel, FROM_UPLINK, "uplink0", TcAttachType::Ingress, tcx());
        attach(kernel, TO_UPLINK, "uplink0", TcAttachType::Egress, tcx());
        attach(kernel, FROM_OVERLAY, "ax_vxlan", TcAttachType::Ingress, tcx());
        attach(kernel, TO_OVERLAY, "ax_vxlan", TcAttachType::Egress, tcx());
    });
    let tunnelled = matches!(routing, Routing::Vxlan | Routing::VxlanRouted);
    let native = if tunnelled { ConfigFlags::default() } else { ConfigFlags::NATIVE_ROUTING };
    node.kernel.config(Config {
        flags: node::config().flags | native,
        pod_mtu: MTU,
        tunnel_ifindex: node.netns.ifindex("ax_vxlan"),
        uplink_ifindex: node.netns.ifindex("uplink0"),
        node_ipv4: (addresses.host)(Net::V4).into(),
        node_ipv6: (addresses.host)(Net::V6).into(),
        ..node::config()
    });
    for net in Net::BOTH {
        node.kernel.address((addresses.host)(net), Address::host());
        node.kernel.address((addresses.overlay)(net), Address::host_overlay());
    }
}

fn add_pod(
    node: &mut Node,
    host: fn(Net) -> IpAddr,
    device: &str,
    addresses: fn(Net) -> IpAddr,
    endpoint: Endpoint,
) -> Pod {
    let netns = Netns::new();
    netns.sysctl("ipv6/conf/default/accept_dad", "0");
    let (host_mac, pod_mac) = (text(endpoint.host_mac), text(endpoint.pod_mac));
    node.netns.ip(&format!(
        "link add {device} address {host_mac} mtu {MTU} type veth peer name eth0 address {pod_mac} mtu {MTU} netns {}",
        netns.path()
    ));
    let ifindex = node.netns.ifindex(device);
    node.kernel.endpoint(ifindex, endpoint);
    node.kernel.policy(endpoint.policy, super::node::open(endpoint.policy, endpoint.policy));
    for net in Net::BOTH {
        node.kernel.address(addresses(net), Address::endpoint(ifindex));
    }
    // Rows, programs, then the link: a pod's first packet comes when its link is up.
    let Node { netns: host_netns, kernel } = node;
    host_netns.run(|| {
        tc::qdisc_add_clsact(device).unwrap();
        let netlink = || TcAttachOptions::Netlink(NlOptions::default());
        attach(kernel, FROM_POD, device, TcAttachType::Ingress, netlink());
        attach(kernel, TO_POD, device, TcAttachType::Egress, netlink());
    });
    node.netns.ip(&format!("link set {device} up"));
    netns.ip("link set eth0 up");
    for (net, gateway) in [(Net::V4, "169.254.1.1"), (Net::V6, "fe80::1")] {
        let address = addresses(net);
        netns.ip(&format!("addr add {address}/{} dev eth0 nodad", net.bits()));
        netns.ip(&format!("neigh add {gateway} lladdr {host_mac} dev eth0 nud permanent"));
        if net == Net::V4 {
            netns.ip(&format!("route add {gateway} dev eth0 scope link"));
        }
        netns.ip(&format!("route add default via {gateway} dev eth0"));
        node.netns.ip(&format!("neigh add {address} lladdr {pod_mac} dev {device} nud permanent"));
        // The source matters to UDP servers of the host, which answer from wherever the route says.
        node.netns.ip(&format!("route add {address}/{} dev {device} src {}", net.bits(), host(net)));
    }
    Pod { netns, ifindex, endpoint }
}

pub fn remote_endpoint() -> Endpoint {
    Endpoint {
        identity: node::REMOTE_IDENTITY,
        policy: 3,
        id: 20,
        ipv4: Net::V4.remote().into(),
        ipv6: Net::V6.remote().into(),
        pod_mac: [2, 0, 0, 0, 2, 10],
        host_mac: [2, 0, 0, 0, 0xff, 20],
        ..Endpoint::default()
    }
}

impl Cluster {
    /// Nodes that tunnel. All policies are open, every pod is listed at both nodes.
    pub fn new() -> Self {
        Self::routed(Routing::Vxlan)
    }

    /// As [`new`](Self::new), with other ways between the nodes.
    pub fn routed(routing: Routing) -> Self {
        let here_addresses =
            Addresses { host: Net::host, overlay: Net::host_overlay, other_host: Net::node, other_pods: Net::remote };
        let there_addresses =
            Addresses { host: Net::node, overlay: Net::node_overlay, other_host: Net::host, other_pods: Net::client };
        let mut here = set_up(&here_addresses, routing);
        let mut there = set_up(&there_addresses, routing);
        here.netns.ip(&format!("link add uplink0 type veth peer name uplink0 netns {}", there.netns.path()));
        connect(&mut here, &here_addresses, routing);
        connect(&mut there, &there_addresses, routing);
        let (uplink_here, uplink_there) = (here.netns.ifindex("uplink0"), there.netns.ifindex("uplink0"));
        let neighbours = matches!(routing, Routing::Vxlan | Routing::Direct);
        let way = |row: Address, uplink| if neighbours { row.direct(uplink) } else { row };
        let client = add_pod(&mut here, Net::host, "axclient", Net::client, node::client());
        let server = add_pod(&mut here, Net::host, "axserver", Net::server, node::server());
        let remote = add_pod(&mut there, Net::node, "axremote", Net::remote, remote_endpoint());
        for net in Net::BOTH {
            here.kernel.address(net.node(), Address::node());
            here.kernel.address(net.node_overlay(), Address::node_overlay(net.node()));
            here.kernel.address(net.remote(), way(Address::pod(node::REMOTE_IDENTITY, net.node()), uplink_here));
            there.kernel.address(net.host(), Address::node());
            there.kernel.address(net.host_overlay(), Address::node_overlay(net.host()));
            for (pod, identity) in [(net.client(), node::CLIENT_IDENTITY), (net.server(), node::SERVER_IDENTITY)] {
                there.kernel.address(pod, way(Address::pod(identity, net.host()), uplink_there));
            }
        }
        Self { here, there, client, server, remote }
    }

    /// Somebody outside, with the address [`Net::world`], behind an uplink of `here` of its own. He sends all there, in packets that
    /// fit through tunnels. The hosts forward, as those of a cluster do.
    pub fn add_outside(&mut self) -> Netns {
        let outside = Netns::new();
        for node in [&self.here, &self.there] {
            for family in ["ipv4", "ipv6"] {
                for device in ["all", "uplink0"] {
                    node.netns.sysctl(&format!("{family}/conf/{device}/forwarding"), "1");
                }
            }
        }
        let Node { netns, kernel } = &mut self.here;
        outside.sysctl("ipv6/conf/default/accept_dad", "0");
        netns.ip(&format!("link add outside0 type veth peer name eth0 netns {}", outside.path()));
        netns.ip("link set outside0 up");
        outside.ip("link set eth0 up");
        for (net, gateway) in [(Net::V4, "198.51.100.254"), (Net::V6, "fe80::1")] {
            let (address, bits) = (net.world(), net.bits());
            netns.ip(&format!("addr add {gateway}/{bits} dev outside0 nodad"));
            // UDP servers of the host answer from wherever the route says.
            netns.ip(&format!("route add {address}/{bits} dev outside0 src {}", net.host()));
            outside.ip(&format!("addr add {address}/{bits} dev eth0 nodad"));
            outside.ip(&format!("route add {gateway}/{bits} dev eth0"));
            outside.ip(&format!("route add default via {gateway} dev eth0 src {address} mtu {}", MTU - 50));
        }
        netns.run(|| {
            let tcx = || TcAttachOptions::TcxOrder(LinkOrder::default());
            attach(kernel, FROM_UPLINK, "outside0", TcAttachType::Ingress, tcx());
            attach(kernel, TO_UPLINK, "outside0", TcAttachType::Egress, tcx());
        });
        outside
    }
}
