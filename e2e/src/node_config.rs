//! The configuration files of a node's components.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::address::{Addresses, unspecified};
use crate::images::PAUSE;

/// containerd's: everything in its own folder, and no plugins that look for what is not there.
pub fn containerd(root: &Path, addresses: Addresses) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "/run/containerd/containerd.sock"

# How long CNI plugins take, as seen by their caller.
[metrics]
address = "{metrics}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Where the harness itself may not lower the score of a process, containers that want that would not start.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#,
        root = root.display(),
        metrics = SocketAddr::new(unspecified(addresses.api_server()), 1338),
    )
}

/// The kubelet's.
pub fn kubelet(node: &str, addresses: Addresses, authority: &Path, certificate: &Path, key: &Path) -> Result<String> {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": false}, "x509": {"clientCAFile": authority}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "address": unspecified(addresses.api_server()),
        "clusterDNS": [addresses.dns_service().to_string()],
        "clusterDomain": "cluster.local",
        // The node's own subtree of every hierarchy; runc without systemd.
        "cgroupRoot": format!("/{node}"),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        // Machines that still have version 1 hierarchies are fine for tests.
        "failCgroupV1": false,
        "failSwapOn": false,
        // Forgives what a machine without all capabilities refuses: sysctls, scores.
        "featureGates": {"KubeletInUserNamespace": true},
        // All nodes share one disk; none of them shall clean up because of the others.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        // Deletion of test namespaces and start of many pods shall be limited by the node, not by politeness.
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 100,
        "eventBurst": 200,
    });
    Ok(serde_yaml::to_string(&config)?)
}
