//! A machine beside the cluster: in the nodes' subnet, without a part in Kubernetes. What pods reach there, and from where they
//! are reached, is what the cluster's network shows of itself.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::gobuild::AGNHOST;
use crate::process::{Daemon, ProcessId, wait_until};
use crate::{cleanup, link, reach};

/// Named like a node, so that it is removed with the cluster if nobody else does; a cluster never has that many.
const INDEX: u8 = 90;

/// The machine, until it is dropped.
#[derive(Debug)]
pub struct Outside {
    name: String,
    /// Its addresses, one a family.
    pub addresses: Vec<IpAddr>,
    server: ProcessId,
}

impl Outside {
    /// Starts it, with agnhost's server listening: HTTP on 8080, UDP on 8081.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let addresses = cluster.folder.expect()?.addresses();
        let name = cluster.folder.node_name(INDEX);
        cleanup::node(&name)?;
        link::create_node(&name, &cluster.folder.label(), &addresses.outside(), &addresses.machine())?;
        // Always the same, as nodes remember for a while where its addresses were.
        link::ip(&format!("-n {name} link set eth0 address 02:00:00:00:00:{INDEX:02x}"))?;
        let log = cluster.folder.log("outside");
        let network = File::open(link::network_namespace(&name))?;
        let server = Daemon::new(AGNHOST.build(&cluster.paths)?, log)
            .args(["netexec", "--http-port=8080", "--udp-port=8081"])
            .network(network)
            .start()?;
        let outside = Self { name, addresses: addresses.outside().iter().map(IpNet::addr).collect(), server };
        let (network, local) = (outside.network()?, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080));
        let listens = || reach::probe(&network, local).is_ok_and(|outcome| outcome.reached());
        if !wait_until(Duration::from_secs(10), listens) {
            bail!("the server outside does not listen; its log: {}", cluster.folder.log("outside").display());
        }
        Ok(outside)
    }

    /// Its network namespace.
    pub fn network(&self) -> Result<File> {
        File::open(link::network_namespace(&self.name)).context("the machine outside is gone")
    }

    /// Runs `ip` in it.
    pub fn ip(&self, line: &str) -> Result<String> {
        link::ip(&format!("-n {} {line}", self.name))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.server.signal(libc::SIGKILL);
        if let Err(error) = cleanup::node(&self.name) {
            eprintln!("cannot remove {}: {error:#}", self.name);
        }
    }
}
