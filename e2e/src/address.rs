//! Which addresses a cluster uses. Each cluster on this machine has a slot, and all its addresses and ports follow from
//! it, so that clusters do not meet. Addresses are lists, one entry a family: a second family is an entry more here and
//! nothing elsewhere.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// The highest slot, and the most nodes that a cluster has addresses for.
pub const MAX_SLOT: u8 = 60;
/// See [`MAX_SLOT`].
pub const MAX_NODES: u8 = 99;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    slot: u8,
}

impl Addresses {
    /// The addresses of the cluster in `slot` (1 to [`MAX_SLOT`]).
    pub fn new(slot: u8) -> Self {
        Self { slot }
    }

    /// The bridge that connects the nodes; the API server listens on its first address.
    pub fn machine(self) -> Vec<IpNet> {
        vec![self.v4(1)]
    }

    /// Node `index`'s uplink, counted from 1.
    pub fn node(self, index: u8) -> Vec<IpNet> {
        vec![self.v4(100 + index)]
    }

    /// The address under which everything reaches the API server.
    pub fn api_server(self) -> IpAddr {
        self.v4(1).addr()
    }

    /// etcd's port for clients, on the loopback address.
    pub fn etcd_port(self) -> u16 {
        23000 + u16::from(self.slot) * 2
    }

    /// Where ClusterIPs come from.
    pub fn services(self) -> Vec<IpNet> {
        vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16))]
    }

    /// The ClusterIP of the API server: the first of the range.
    pub fn api_service(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))
    }

    /// The ClusterIP where pods expect DNS.
    pub fn dns_service(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))
    }

    /// The pods of node `index`, for the plain bridge CNI only: with ours, the operator decides.
    pub fn bridge_pods(self, index: u8) -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 244, index, 0), 24))
    }

    fn v4(self, last: u8) -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 30, self.slot, last), 24))
    }
}
