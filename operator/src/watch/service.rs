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
use crate::object::{self, Kind, Labels, Object, Protocol, ServiceKind, ServicePort};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Service)]
pub(super) struct Service {
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
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
    node_port: Option<u16>,
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

/// Says who serves a service, where that is not the cluster's proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let spec = self.spec;
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let listed = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let listed = listed.iter().map(String::as_str).filter(|ip| !ip.is_empty() && *ip != "None");
        let cluster_ips: Box<[IpAddr]> = context.addresses("spec.clusterIPs", listed);
        let given = spec.external_ips.unwrap_or_default();
        let external_ips = context.addresses("spec.externalIPs", given.iter().map(String::as_str));
        let ingress = self.status.load_balancer.ingress.unwrap_or_default();
        // Packets to others are the load balancer's to translate.
        let vips = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
        let vips = vips.filter_map(|ingress| ingress.ip.as_deref());
        let load_balancer_ips = context.addresses("status.loadBalancer.ingress", vips);
        let mut ports = Vec::new();
        for (i, port) in spec.ports.unwrap_or_default().into_iter().enumerate() {
            match Protocol::from_kubernetes(port.protocol.as_deref().unwrap_or("TCP")) {
                Some(protocol) => {
                    let node_port = port.node_port.filter(|port| *port != 0);
                    let name = port.name.unwrap_or_default().into();
                    ports.push(ServicePort { name, protocol, port: port.port, node_port });
                }
                None => context.problem(format!("spec.ports[{i}].protocol"), "is not TCP, UDP or SCTP"),
            }
        }
        let timeout = spec.session_affinity_config.and_then(|config| config.client_ip?.timeout_seconds);
        let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
        let name = context.name(&self.metadata);
        let labels: Labels = self.metadata.labels.unwrap_or_default().into_iter().collect();
        Some(Object::Service(Arc::new(object::Service {
            name,
            uid: text(self.metadata.uid.as_deref()),
            of_another_proxy: labels.get(PROXY_NAME).is_some(),
            labels,
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
            external_ips,
            load_balancer_ips,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })))
    }
}
