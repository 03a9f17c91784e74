//! Settings of the operator itself.

use std::time::Duration;

use serde::Deserialize;

use super::duration::duration;

/// The operator itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Operator {
    /// TCP port of NodeSync.
    pub port: u16,
    /// TCP port of `/healthz` and `/readyz`.
    pub health_port: u16,
    /// TCP port of `/metrics`.
    pub metrics_port: u16,
    /// Label selector of all replicas' pods, in this pod's namespace.
    pub pod_selector: String,
    /// Label selector of the node daemons' pods, in this pod's namespace.
    pub node_pod_selector: String,
    /// Take the taint off nodes whose daemon is ready.
    pub remove_node_taints: bool,
    /// Taint nodes whose daemon is not ready.
    pub set_node_taints: bool,
    /// Set the condition `NetworkUnavailable` of nodes whose daemon is ready.
    pub set_node_network_status: bool,
    /// ServiceAccount of the node daemons, in this pod's namespace.
    pub node_service_account: String,
    /// How long a node's certificate is valid; it is renewed after two thirds of that.
    pub node_certificate_seconds: u32,
    /// How often unused identities are deleted; 0: never.
    #[serde(rename = "identityGCInterval", deserialize_with = "duration")]
    pub identity_gc_interval: Duration,
    /// How long an identity must have been unused for that.
    #[serde(deserialize_with = "duration")]
    pub identity_heartbeat_timeout: Duration,
    /// How long a CiliumNode stays when its Node is gone; 0: for ever.
    #[serde(rename = "nodeGCInterval", deserialize_with = "duration")]
    pub node_gc_interval: Duration,
    /// How often CiliumEndpoints are looked through for such without a pod; 0: only when an operator begins to lead.
    #[serde(rename = "endpointGCInterval", deserialize_with = "duration")]
    pub endpoint_gc_interval: Duration,
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            port: axoneme_proto::NODESYNC_PORT,
            health_port: 9234,
            metrics_port: 9963,
            pod_selector: "app.kubernetes.io/name=axoneme-operator".into(),
            node_pod_selector: "app.kubernetes.io/name=axoneme".into(),
            remove_node_taints: true,
            set_node_taints: true,
            set_node_network_status: true,
            node_service_account: "axoneme-node".into(),
            node_certificate_seconds: 3600,
            identity_gc_interval: Duration::from_secs(15 * 60),
            identity_heartbeat_timeout: Duration::from_secs(30 * 60),
            node_gc_interval: Duration::from_secs(5 * 60),
            endpoint_gc_interval: Duration::from_secs(5 * 60),
        }
    }
}
