//! CiliumNodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_crds::v2;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{self, Kind, LedgerAddress, Object, PoolEntry};

/// A CiliumNode as it is read; IPAM reads single ones too.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumNode)]
pub struct Ledger {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    addresses: Option<Vec<Address>>,
    ipam: Ipam,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    pool: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "ipv6-pool")]
    ipv6_pool: Option<BTreeMap<String, Entry>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    owner: Option<String>,
    resource: Option<String>,
}

impl Watched for Ledger {
    const KIND: Kind = Kind::CiliumNode;

    fn convert(self, context: &mut Context) -> Option<Object> {
        Some(Object::CiliumNode(Arc::new(self.ledger(context))))
    }
}

impl From<Ledger> for object::CiliumNode {
    fn from(ledger: Ledger) -> Self {
        ledger.ledger(&mut Context::default())
    }
}

impl Ledger {
    fn ledger(self, context: &mut Context) -> object::CiliumNode {
        let ipam = self.spec.ipam;
        let mut pool = BTreeMap::new();
        for (address, entry) in ipam.pool.unwrap_or_default().into_iter().chain(ipam.ipv6_pool.unwrap_or_default()) {
            let Some(address) = context.parse("spec.ipam.pool", &address, "IP address") else { continue };
            let (owner, resource) = (text(entry.owner.as_deref()), text(entry.resource.as_deref()));
            pool.insert(address, PoolEntry { owner, resource });
        }
        let mut addresses = Vec::new();
        for address in self.spec.addresses.unwrap_or_default() {
            if let Some(ip) = context.parse("spec.addresses", &address.ip, "IP address") {
                addresses.push(LedgerAddress { kind: address.kind.into(), ip });
            }
        }
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.kind == "Node" && owner.api_version == "v1");
        let cidrs = ipam.pod_cidrs.unwrap_or_default();
        object::CiliumNode {
            name: text(self.metadata.name.as_deref()),
            uid: text(self.metadata.uid.as_deref()),
            resource_version: text(self.metadata.resource_version.as_deref()),
            node_uid: owner.map(|owner| Arc::from(&*owner.uid)),
            pod_cidrs: cidrs.iter().filter_map(|cidr| context.parse("spec.ipam.podCIDRs", cidr, "CIDR")).collect(),
            pool,
            addresses: addresses.into(),
        }
    }
}
