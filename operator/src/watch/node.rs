//! Nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, labels, text};
use super::metadata::slim;
use super::quantity::quantity;
use crate::object::{self, Kind, Object};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Node)]
pub(super) struct Node {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Option<Vec<Address>>,
    allocatable: Option<BTreeMap<String, String>>,
    capacity: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Watched for Node {
    const KIND: Kind = Kind::Node;

    fn convert(mut self, context: &mut Context) -> Option<Object> {
        let addresses = self.status.addresses.unwrap_or_default();
        let mut of = |kind: &str| {
            let found = addresses.iter().filter(|address| address.kind == kind);
            context.addresses("status.addresses", found.map(|address| &*address.address))
        };
        let (internal_ips, external_ips) = (of("InternalIP"), of("ExternalIP"));
        let pods = |resources: &Option<BTreeMap<String, String>>| {
            let count = resources.as_ref().and_then(|resources| quantity(resources.get("pods")?));
            count.and_then(|count| u32::try_from(count).ok())
        };
        let cidrs = self.spec.pod_cidrs.unwrap_or_default();
        Some(Object::Node(Arc::new(object::Node {
            name: text(self.metadata.name.as_deref()),
            uid: text(self.metadata.uid.as_deref()),
            internal_ips,
            external_ips,
            labels: labels(&mut self.metadata),
            max_pods: pods(&self.status.allocatable).or_else(|| pods(&self.status.capacity)).unwrap_or(0),
            pod_cidrs: cidrs.iter().filter_map(|cidr| context.parse("spec.podCIDRs", cidr, "CIDR")).collect(),
            resource_version: text(self.metadata.resource_version.as_deref()),
        })))
    }
}
