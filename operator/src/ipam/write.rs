//! A planned ledger as a request.

use std::collections::BTreeMap;

use axoneme_crds::v2;
use axoneme_crds::v2::node::ipam::{AllocationIp, AllocationMap, IpamPools, PoolAllocation, PoolDemand, PoolRequest};
use axoneme_crds::v2::node::{IpamSpec, NodeAddress};
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::object::{CiliumNode, PoolEntry};

/// The object to be created.
#[must_use]
pub fn creation(ledger: &CiliumNode) -> v2::CiliumNode {
    let of_family = |v6: bool| -> AllocationMap {
        let entries = ledger.pool.iter().filter(|(address, _)| address.is_ipv6() == v6);
        entries.map(|(address, entry)| (address.to_string(), allocation(entry))).collect()
    };
    let ipam = IpamSpec {
        pool: of_family(false),
        ipv6_pool: of_family(true),
        pod_cidrs: ledger.pod_cidrs.iter().map(ToString::to_string).collect(),
        pools: (!ledger.pools.is_empty() || !ledger.requested.is_empty()).then(|| pools(ledger)),
        ..IpamSpec::default()
    };
    v2::CiliumNode {
        metadata: ObjectMeta { name: Some(ledger.name.to_string()), ..ObjectMeta::default() },
        spec: v2::NodeSpec { addresses: node_addresses(ledger), ipam: Some(ipam), ..v2::NodeSpec::default() },
        ..v2::CiliumNode::default()
    }
}

/// The merge patch from `old` to `new`, guarded by the version of `old`; none if nothing differs. It touches only what differs,
/// so fields that are not understood here stay as they are.
#[must_use]
pub fn patch(old: &CiliumNode, new: &CiliumNode) -> Option<Value> {
    let mut metadata = Map::new();
    if old.node_uid != new.node_uid {
        metadata.insert("ownerReferences".into(), Value::Null);
    }
    let mut ipam = Map::new();
    if old.pod_cidrs != new.pod_cidrs {
        ipam.insert("podCIDRs".into(), json!(new.pod_cidrs));
    }
    if old.pools != new.pools || old.requested != new.requested {
        let IpamPools { requested, allocated, .. } = pools(new);
        ipam.insert("pools".into(), json!({"requested": requested, "allocated": allocated}));
    }
    for (key, v6) in [("pool", false), ("ipv6-pool", true)] {
        let changes = pool_changes(old, new, v6);
        if !changes.is_empty() {
            ipam.insert(key.into(), changes.into());
        }
    }
    let mut spec = Map::new();
    if old.addresses != new.addresses {
        spec.insert("addresses".into(), json!(node_addresses(new)));
    }
    if !ipam.is_empty() {
        spec.insert("ipam".into(), ipam.into());
    }
    if metadata.is_empty() && spec.is_empty() {
        return None;
    }
    metadata.insert("resourceVersion".into(), json!(old.resource_version));
    Some(json!({"metadata": metadata, "spec": spec}))
}

fn pools(ledger: &CiliumNode) -> IpamPools {
    let requested = ledger.requested.iter().map(|request| PoolRequest {
        pool: request.pool.to_string(),
        needed: Some(PoolDemand {
            ipv4_addrs: Some(request.ipv4).filter(|count| *count > 0),
            ipv6_addrs: Some(request.ipv6).filter(|count| *count > 0),
            ..PoolDemand::default()
        }),
        ..PoolRequest::default()
    });
    let allocated = ledger.pools.iter().map(|pool| PoolAllocation {
        pool: pool.name.to_string(),
        cidrs: pool.cidrs.iter().map(ToString::to_string).collect(),
        allow_first_ip: Some(true).filter(|_| pool.allow_first_ip),
        allow_last_ip: Some(true).filter(|_| pool.allow_last_ip),
        ..PoolAllocation::default()
    });
    IpamPools { requested: requested.collect(), allocated: allocated.collect(), ..IpamPools::default() }
}

fn pool_changes(old: &CiliumNode, new: &CiliumNode, v6: bool) -> Map<String, Value> {
    let entered = new.pool.iter().filter(|(address, entry)| old.pool.get(address) != Some(entry));
    let entered = entered.map(|(address, entry)| (address, json!(allocation(entry))));
    let removed = old.pool.keys().filter(|address| !new.pool.contains_key(address)).map(|a| (a, Value::Null));
    let changes: BTreeMap<_, _> = entered.chain(removed).filter(|(address, _)| address.is_ipv6() == v6).collect();
    changes.into_iter().map(|(address, change)| (address.to_string(), change)).collect()
}

fn allocation(entry: &PoolEntry) -> AllocationIp {
    AllocationIp::new(&*entry.owner, &*entry.resource)
}

fn node_addresses(ledger: &CiliumNode) -> Vec<NodeAddress> {
    ledger.addresses.iter().map(|address| NodeAddress::new(&address.kind, address.ip)).collect()
}
