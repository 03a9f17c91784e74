//! Which addresses a cluster uses. Each cluster on this machine has a slot, and all its addresses and ports follow from
//! it, so that clusters do not meet. Addresses are lists, one entry a family, the first family first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The highest slot, and the most nodes that a cluster has addresses for.
pub const MAX_SLOT: u8 = 60;
/// See [`MAX_SLOT`].
pub const MAX_NODES: u8 = 99;

/// The address families of a cluster: of its nodes, its pods and its Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both, IPv4 first.
    Dual,
}

impl Family {
    /// Whether it has IPv4.
    pub fn v4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether it has IPv6.
    pub fn v6(self) -> bool {
        self != Self::Ipv4
    }
}

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    slot: u8,
    family: Family,
}

impl Addresses {
    /// The addresses of the cluster in `slot` (1 to [`MAX_SLOT`]).
    pub fn new(slot: u8, family: Family) -> Self {
        Self { slot, family }
    }

    /// The bridge that connects the nodes; the API server listens on its first address.
    pub fn machine(self) -> Vec<IpNet> {
        self.underlay(1)
    }

    /// Node `index`'s uplink, counted from 1.
    pub fn node(self, index: u8) -> Vec<IpNet> {
        self.underlay(100 + index)
    }

    /// A machine beside the cluster, in the nodes' subnet: what is outside, as pods see it.
    pub fn outside(self) -> Vec<IpNet> {
        self.underlay(90)
    }

    /// The address under which everything reaches the API server.
    pub fn api_server(self) -> IpAddr {
        self.machine()[0].addr()
    }

    /// etcd's port for clients, on the loopback address.
    pub fn etcd_port(self) -> u16 {
        23000 + u16::from(self.slot) * 2
    }

    /// Where ClusterIPs come from.
    pub fn services(self) -> Vec<IpNet> {
        self.each(v4([10, 96, 0, 0], 16), v6([0xfd96, 0, 0, 0, 0, 0, 0, 0], 112))
    }

    /// The ClusterIP of the API server: the first of the range.
    pub fn api_service(self) -> IpAddr {
        self.each(v4([10, 96, 0, 1], 32), v6([0xfd96, 0, 0, 0, 0, 0, 0, 1], 128))[0].addr()
    }

    /// The ClusterIP where pods expect DNS.
    pub fn dns_service(self) -> IpAddr {
        self.each(v4([10, 96, 0, 10], 32), v6([0xfd96, 0, 0, 0, 0, 0, 0, 10], 128))[0].addr()
    }

    /// Where pods' addresses come from. The chart's default range for IPv4 holds the Services above.
    pub fn pods(self) -> Vec<IpNet> {
        self.each(v4([10, 244, 0, 0], 16), v6([0xfd44, 0, 0, 0, 0, 0, 0, 0], 104))
    }

    /// The pods of node `index`, for the plain bridge CNI only: with ours, the operator decides. Beside [`Self::pods`], so that
    /// a cluster can move from the one to the other.
    pub fn bridge_pods(self, index: u8) -> Vec<IpNet> {
        self.each(v4([10, 245, index, 0], 24), v6([0xfd45, 0, 0, 0, 0, 0, 0, u16::from(index) << 8], 120))
    }

    fn underlay(self, last: u8) -> Vec<IpNet> {
        let slot = u16::from(self.slot);
        self.each(v4([172, 30, self.slot, last], 24), v6([0xfd30, 0, 0, slot, 0, 0, 0, u16::from(last)], 64))
    }

    fn each(self, v4: IpNet, v6: IpNet) -> Vec<IpNet> {
        [self.family.v4().then_some(v4), self.family.v6().then_some(v6)].into_iter().flatten().collect()
    }
}

/// Every address of the family.
pub fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn v4(address: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address.into(), length))
}

fn v6(address: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address.into(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_family_comes_first() {
        let texts = |family| Addresses::new(7, family).node(2).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(Family::Ipv4), ["172.30.7.102/24"]);
        assert_eq!(texts(Family::Ipv6), ["fd30:0:0:7::66/64"]);
        assert_eq!(texts(Family::Dual), ["172.30.7.102/24", "fd30:0:0:7::66/64"]);
        assert_eq!(Addresses::new(7, Family::Ipv6).api_service().to_string(), "fd96::1");
    }
}
