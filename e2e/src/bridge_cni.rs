//! The plain bridge network: a point-to-point link per pod, a range of addresses per node, static routes between nodes. No
//! policy, no services. It shows what the kubelet and containerd cost alone, and it tests the harness without a data plane.

use anyhow::Result;
use serde_json::json;

use crate::address::{Addresses, unspecified};
use crate::gobuild::{Binary, HOST_LOCAL, PTP};
use crate::link;
use crate::paths::Paths;
use crate::state::Folder;

/// The plugins that it needs.
pub const PLUGINS: [Binary; 2] = [PTP, HOST_LOCAL];

/// Gives node `index` the plugins and their configuration.
pub fn install(paths: &Paths, folder: &Folder, addresses: Addresses, index: u8) -> Result<()> {
    for plugin in PLUGINS {
        std::fs::copy(plugin.path(paths)?, folder.node(index).join("cni-bin").join(plugin.name))?;
    }
    let pods = addresses.bridge_pods(index);
    let ranges: Vec<_> = pods.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    let routes: Vec<_> = pods.iter().map(|net| json!({"dst": format!("{}/0", unspecified(net.addr()))})).collect();
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "floor",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "mtu": 1500,
            "ipam": {
                "type": "host-local",
                "ranges": ranges,
                "routes": routes,
                "dataDir": "/var/lib/cni/addresses",
            },
        }],
    });
    std::fs::write(folder.node(index).join("cni-conf/10-floor.conflist"), serde_json::to_vec_pretty(&config)?)?;
    Ok(())
}

/// Tells each node the way to the pods of the others.
pub fn connect(folder: &Folder, addresses: Addresses, nodes: &[u8]) -> Result<()> {
    for target in nodes {
        for (pods, via) in addresses.bridge_pods(*target).iter().zip(addresses.node(*target)) {
            for node in nodes.iter().filter(|n| *n != target) {
                link::ip(&format!("-n {} route replace {pods} via {}", folder.node_name(*node), via.addr()))?;
            }
        }
    }
    Ok(())
}
