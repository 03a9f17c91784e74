//! A node with pods, as most tests want it. Every address exists in both families, so that each test can run twice.

use std::net::{IpAddr, SocketAddr};

use axoneme_bpf::address::Address;
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::inet::{Direction, Inet, Port};
use axoneme_bpf::policy::{
    Action, Policy, PolicyFlags, PolicyRuleKey, RulePeer, RulePorts, TIER_NORMAL, TIERS, TierVerdict, Verdicts,
};

use super::kernel::Kernel;
use super::netns;

/// The family that a test runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    V4,
    V6,
}

impl Net {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        if self == Self::V4 { v4.parse().unwrap() } else { v6.parse().unwrap() }
    }

    /// The pod whose device programs run on (ifindex 1).
    pub fn client(self) -> IpAddr {
        self.pick("10.0.1.10", "fd00:1::10")
    }

    /// Another pod of the node.
    pub fn server(self) -> IpAddr {
        self.pick("10.0.1.11", "fd00:1::11")
    }

    /// A listed pod of the other node.
    pub fn remote(self) -> IpAddr {
        self.pick("10.0.2.10", "fd00:2::10")
    }

    /// An address of the other node's pod CIDR that has no row of its own.
    pub fn unlisted(self) -> IpAddr {
        self.pick("10.0.2.99", "fd00:2::99")
    }

    pub fn host(self) -> IpAddr {
        self.pick("192.0.2.1", "2001:db8::1")
    }

    pub fn host_overlay(self) -> IpAddr {
        self.pick("10.0.1.1", "fd00:1::1")
    }

    pub fn node(self) -> IpAddr {
        self.pick("192.0.2.2", "2001:db8::2")
    }

    pub fn node_overlay(self) -> IpAddr {
        self.pick("10.0.2.1", "fd00:2::1")
    }

    pub fn world(self) -> IpAddr {
        self.pick("198.51.100.7", "2001:db8:ffff::7")
    }

    pub fn cluster_ip(self) -> IpAddr {
        self.pick("10.96.0.10", "fd00:96::10")
    }

    pub fn hairpin(self) -> IpAddr {
        self.pick("169.254.42.1", "fd61:6e78:6f6e:656d::1")
    }

    pub fn bits(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }
}

pub const CLIENT_IFINDEX: u32 = 1;
pub const SERVER_IFINDEX: u32 = 1011;
pub const CLIENT_ID: u32 = 10;
pub const SERVER_ID: u32 = 11;
pub const CLIENT_IDENTITY: u32 = 50_010;
pub const SERVER_IDENTITY: u32 = 50_011;
pub const REMOTE_IDENTITY: u32 = 50_020;
/// Policy index, and slot, of each pod.
pub const CLIENT_POLICY: u32 = 1;
pub const SERVER_POLICY: u32 = 2;
pub const TUNNEL_PORT: u16 = 8472;

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

pub fn config() -> Config {
    Config {
        flags: ConfigFlags::MASQUERADE_IPV4 | ConfigFlags::MASQUERADE_IPV6,
        tunnel_ifindex: 77,
        uplink_ifindex: 2,
        uplink_mtu: 1500,
        tunnel_port: Port::new(TUNNEL_PORT),
        nat_port_min: 32768,
        nat_port_max: 60999,
        node_ipv4: Inet::from(Net::V4.host()),
        node_ipv6: Inet::from(Net::V6.host()),
        ..Config::default()
    }
}

pub fn client() -> Endpoint {
    Endpoint {
        identity: CLIENT_IDENTITY,
        policy: CLIENT_POLICY,
        id: CLIENT_ID,
        ipv4: Net::V4.client().into(),
        ipv6: Net::V6.client().into(),
        pod_mac: super::packet::SOURCE_MAC,
        host_mac: [2, 0, 0, 0, 0xff, 10],
        ..Endpoint::default()
    }
}

pub fn server() -> Endpoint {
    Endpoint {
        identity: SERVER_IDENTITY,
        policy: SERVER_POLICY,
        id: SERVER_ID,
        ipv4: Net::V4.server().into(),
        ipv6: Net::V6.server().into(),
        pod_mac: [2, 0, 0, 0, 1, 11],
        host_mac: [2, 0, 0, 0, 0xff, 11],
        ..Endpoint::default()
    }
}

/// A policy that enforces nothing.
pub fn open(slot: u32, generation: u32) -> Policy {
    Policy { slot, generation, ..Policy::default() }
}

/// A policy that isolates in both directions; its cookies are 100 (ingress) and 200 (egress).
pub fn isolating(slot: u32, generation: u32) -> Policy {
    Policy {
        flags: PolicyFlags::ENFORCE_INGRESS | PolicyFlags::ENFORCE_EGRESS,
        ingress_cookie: 100,
        egress_cookie: 200,
        ..open(slot, generation)
    }
}

/// A row that speaks in the normal tier only.
pub fn normal(action: Action, cookie: u32) -> Verdicts {
    tiers(&[(TIER_NORMAL, action, 0, cookie)])
}

/// A row of (tier, action, order, cookie).
pub fn tiers(says: &[(usize, Action, u32, u32)]) -> Verdicts {
    let mut verdicts = Verdicts { tiers: [TierVerdict::default(); TIERS], reserved: 0 };
    for (tier, action, order, cookie) in says {
        verdicts.tiers[*tier] =
            TierVerdict { action: *action, order: *order, cookie: *cookie, ..TierVerdict::default() };
    }
    verdicts
}

pub fn rule(slot: u32, peer: RulePeer, direction: Direction) -> PolicyRuleKey {
    PolicyRuleKey::new(slot, peer, direction, RulePorts::Any)
}

pub fn port_rule(slot: u32, peer: RulePeer, direction: Direction, protocol: u8, port: u16) -> PolicyRuleKey {
    PolicyRuleKey::new(slot, peer, direction, RulePorts::Prefix { protocol, port, bits: 16 })
}

/// A node with a client and a server pod under open policies, and a second node with one listed pod. The host has no routes and
/// does not forward.
pub fn kernel() -> Kernel {
    netns::isolate();
    let mut kernel = Kernel::with(&[]);
    kernel.config(config());
    kernel.endpoint(CLIENT_IFINDEX, client());
    kernel.endpoint(SERVER_IFINDEX, server());
    kernel.policy(CLIENT_POLICY, open(CLIENT_POLICY, 1));
    kernel.policy(SERVER_POLICY, open(SERVER_POLICY, 2));
    for net in Net::BOTH {
        kernel.address(net.client(), Address::endpoint(CLIENT_IFINDEX));
        kernel.address(net.server(), Address::endpoint(SERVER_IFINDEX));
        kernel.address(net.host(), Address::host());
        kernel.address(net.host_overlay(), Address::host_overlay());
        kernel.address(net.node(), Address::node());
        kernel.address(net.node_overlay(), Address::node_overlay(net.node()));
        kernel.address(net.remote(), Address::pod(REMOTE_IDENTITY, net.node()));
        let length = if net == Net::V4 { 24 } else { 64 };
        kernel.cidr(net.unlisted(), length, Address::pod(0, net.node()));
    }
    kernel
}
