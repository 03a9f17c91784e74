//! Pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, labels, text};
use super::metadata::{EGRESS_BANDWIDTH, INGRESS_BANDWIDTH, MIRROR, pool_choice, slim};
use super::quantity::quantity;
use crate::object::{self, Bandwidth, ContainerPort, Kind, Object, Protocol};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Pod)]
pub(super) struct Pod {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    service_account_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn convert(mut self, context: &mut Context) -> Option<Object> {
        let containers = self.spec.containers.unwrap_or_default().into_iter();
        // Sidecars are init containers that stay, and their ports count.
        let containers = containers.chain(self.spec.init_containers.unwrap_or_default());
        let mut ports = Vec::new();
        for port in containers.flat_map(|container| container.ports.unwrap_or_default()) {
            let Some(name) = port.name.filter(|name| !name.is_empty()) else { continue };
            match Protocol::from_kubernetes(port.protocol.as_deref().unwrap_or("TCP")) {
                Some(protocol) => ports.push(ContainerPort { name: name.into(), protocol, port: port.container_port }),
                None => context.problem("spec.containers[].ports[].protocol", "is not TCP, UDP or SCTP"),
            }
        }
        let mut annotations = self.metadata.annotations.take().unwrap_or_default();
        let mut bandwidth = |name: &str| limit(context, name, annotations.remove(name)?);
        let bandwidth = Bandwidth {
            egress: bandwidth(EGRESS_BANDWIDTH).unwrap_or(0),
            ingress: bandwidth(INGRESS_BANDWIDTH).unwrap_or(0),
        };
        let mirror = annotations.remove(MIRROR);
        let pools = pool_choice(&mut annotations, context);
        let ips = self.status.pod_ips.unwrap_or_default();
        let ips = context.addresses("status.podIPs", ips.iter().map(|entry| &*entry.ip));
        Some(Object::Pod(Arc::new(object::Pod {
            name: context.name(&self.metadata),
            uid: text(self.metadata.uid.as_deref()),
            mirror: mirror.map(Arc::from),
            labels: labels(&mut self.metadata),
            node: self.spec.node_name.filter(|node| !node.is_empty()).map(|node| context.share(&node)),
            host_network: self.spec.host_network.unwrap_or(false),
            service_account: context.share(&self.spec.service_account_name.unwrap_or_default()),
            ports: ports.into(),
            bandwidth,
            pools,
            ips,
            deleting: self.metadata.deletion_timestamp.is_some(),
            finished: matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            resource_version: text(self.metadata.resource_version.as_deref()),
        })))
    }
}

/// Bits per second. Like Cilium's, a pod whose limit makes no sense has none; here it is told.
fn limit(context: &mut Context, annotation: &str, text: String) -> Option<u64> {
    let limit = quantity(&text).filter(|limit| *limit > 0);
    if limit.is_none() {
        let problem = format!("{text:?} is no quantity of bits per second (like 10M): the pod is not limited");
        context.problem(format!("metadata.annotations[{annotation}]"), problem);
    }
    limit
}
