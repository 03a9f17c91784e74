//! EndpointSlices.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::Context;
use super::metadata::slim;
use crate::object::{self, Kind, Object, Protocol, SlicePort};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::EndpointSlice)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    zone: Option<String>,
    hints: Option<Hints>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    for_zones: Option<Vec<Hint>>,
    for_nodes: Option<Vec<Hint>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Hint {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Watched for Slice {
    const KIND: Kind = Kind::EndpointSlice;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let service = self.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
        let mut ports = Vec::new();
        for (i, port) in self.ports.unwrap_or_default().into_iter().enumerate() {
            let Some(number) = port.port else { continue };
            match Protocol::from_kubernetes(port.protocol.as_deref().unwrap_or("TCP")) {
                Some(protocol) => {
                    ports.push(SlicePort { name: port.name.unwrap_or_default().into(), protocol, port: number });
                }
                None => context.problem(format!("ports[{i}].protocol"), "is not TCP, UDP or SCTP"),
            }
        }
        let endpoints = match &*self.address_type {
            // Names: for nobody who forwards packets.
            "FQDN" => Vec::new(),
            _ => self.endpoints.unwrap_or_default(),
        };
        let endpoints = endpoints.into_iter().enumerate().map(|(i, endpoint)| {
            let addresses = endpoint.addresses.unwrap_or_default();
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let hints = endpoint.hints.unwrap_or_default();
            let mut names = |hints: Option<Vec<Hint>>| {
                hints.unwrap_or_default().iter().map(|hint| context.share(&hint.name)).collect::<Box<[_]>>()
            };
            let (for_zones, for_nodes) = (names(hints.for_zones), names(hints.for_nodes));
            object::Endpoint {
                addresses: context
                    .addresses(&format!("endpoints[{i}].addresses"), addresses.iter().map(String::as_str)),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                node: endpoint.node_name.map(|node| context.share(&node)),
                zone: endpoint.zone.map(|zone| context.share(&zone)),
                for_zones,
                for_nodes,
            }
        });
        let endpoints = endpoints.collect();
        Some(Object::EndpointSlice(Arc::new(object::EndpointSlice {
            name: context.name(&self.metadata),
            service: service.map_or_else(|| Arc::from(""), |service| Arc::from(&**service)),
            ports: ports.into(),
            endpoints,
        })))
    }
}
