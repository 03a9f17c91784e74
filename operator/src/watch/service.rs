//! Services.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{self, Kind, Object, Protocol, ServiceKind, ServicePort};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Service)]
pub(super) struct Service {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    selector: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

/// Kubernetes' default for `ClientIP`: three hours.
const DEFAULT_AFFINITY: u32 = 10_800;

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let spec = self.spec;
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let listed = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let listed = listed.iter().map(String::as_str).filter(|ip| !ip.is_empty() && *ip != "None");
        let cluster_ips: Box<[IpAddr]> = context.addresses("spec.clusterIPs", listed);
        let mut ports = Vec::new();
        for (i, port) in spec.ports.unwrap_or_default().into_iter().enumerate() {
            match Protocol::from_kubernetes(port.protocol.as_deref().unwrap_or("TCP")) {
                Some(protocol) => {
                    ports.push(ServicePort { name: port.name.unwrap_or_default().into(), protocol, port: port.port });
                }
                None => context.problem(format!("spec.ports[{i}].protocol"), "is not TCP, UDP or SCTP"),
            }
        }
        let timeout = spec.session_affinity_config.and_then(|config| config.client_ip?.timeout_seconds);
        let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
        Some(Object::Service(Arc::new(object::Service {
            name: context.name(&self.metadata),
            uid: text(self.metadata.uid.as_deref()),
            labels: self.metadata.labels.unwrap_or_default().into_iter().collect(),
            selector: spec.selector.unwrap_or_default().into_iter().collect(),
            kind: match spec.kind.as_deref() {
                Some("NodePort") => ServiceKind::NodePort,
                Some("LoadBalancer") => ServiceKind::LoadBalancer,
                Some("ExternalName") => ServiceKind::ExternalName,
                _ => ServiceKind::ClusterIp,
            },
            cluster_ips,
            headless,
            ports: ports.into(),
            affinity_seconds: affinity.then(|| timeout.unwrap_or(DEFAULT_AFFINITY)),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        })))
    }
}
