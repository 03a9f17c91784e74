//! CiliumNodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_crds::v2;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::{DO_NOT_GC, slim};
use crate::object::{self, Kind, LedgerAddress, NodePool, Object, PoolEntry, PoolRequest};

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
    pools: Option<Pools>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pools {
    requested: Option<Vec<v2::node::ipam::PoolRequest>>,
    allocated: Option<Vec<v2::node::ipam::PoolAllocation>>,
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
        let marked = self.metadata.annotations.as_ref().and_then(|all| all.get(DO_NOT_GC));
        let marked = marked.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let cidrs = ipam.pod_cidrs.unwrap_or_default();
        let (pools, requested) = pools(ipam.pools.unwrap_or_default(), context);
        object::CiliumNode {
            name: text(self.metadata.name.as_deref()),
            uid: text(self.metadata.uid.as_deref()),
            resource_version: text(self.metadata.resource_version.as_deref()),
            node_uid: owner.map(|owner| Arc::from(&*owner.uid)),
            keep: marked || (owner.is_none() && !owners.is_empty()),
            pod_cidrs: cidrs.iter().filter_map(|cidr| context.parse("spec.ipam.podCIDRs", cidr, "CIDR")).collect(),
            pool,
            addresses: addresses.into(),
            pools,
            requested,
        }
    }
}

fn pools(pools: Pools, context: &mut Context) -> (Box<[NodePool]>, Box<[PoolRequest]>) {
    let mut allocated: Vec<NodePool> = Vec::new();
    for pool in pools.allocated.unwrap_or_default() {
        let name = context.share(&pool.pool);
        let cidrs = pool.cidrs.iter();
        let cidrs = cidrs.filter_map(|cidr| context.parse("spec.ipam.pools.allocated[].cidrs", cidr, "CIDR"));
        allocated.push(NodePool {
            name,
            cidrs: cidrs.collect(),
            allow_first_ip: pool.allow_first_ip.unwrap_or(false),
            allow_last_ip: pool.allow_last_ip.unwrap_or(false),
        });
    }
    allocated.sort_by(|a, b| a.name.cmp(&b.name));
    let mut requested: Vec<PoolRequest> = Vec::new();
    for request in pools.requested.unwrap_or_default() {
        let needed = request.needed.unwrap_or_default();
        let (ipv4, ipv6) = (needed.ipv4_addrs.unwrap_or(0), needed.ipv6_addrs.unwrap_or(0));
        requested.push(PoolRequest { pool: context.share(&request.pool), ipv4, ipv6 });
    }
    requested.sort_by(|a, b| a.pool.cmp(&b.pool));
    (allocated.into(), requested.into())
}
