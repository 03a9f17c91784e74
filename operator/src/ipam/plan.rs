//! What a node's ledger shall be: a pure function of the ledger as it is and of what is demanded.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_crds::v2::node::{CILIUM_INTERNAL_IP, INTERNAL_IP};
use ipnet::IpNet;

use super::Rotation;
use crate::compile::pool::{overlays, parts};
use crate::engine::{NodeDemand, take_back};
use crate::object::{CiliumNode, LedgerAddress, Name, Node, PoolEntry};

/// The ledger as it shall be, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The new content; uid and version are those of the old one.
    pub ledger: CiliumNode,
    /// How many addresses were entered for pods.
    pub assigned: u64,
    /// Addresses that are free after the write.
    pub freed: Vec<IpAddr>,
    /// Pods that get no address now.
    pub short: Vec<Shortage>,
}

/// A pod that gets no address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The pod.
    pub pod: Name,
    /// Why.
    pub message: String,
}

/// The ledger of a node that has none.
#[must_use]
pub fn empty(node: &Node) -> CiliumNode {
    CiliumNode { name: Arc::clone(&node.name), ..CiliumNode::default() }
}

/// What `old` becomes by what `demand` asks for, with new `cidrs` for the node, which in mode multi-pool are of its pools. Whoever has an address keeps it whatever the
/// demand says, because the demand may be older than the ledger.
pub fn plan(old: &CiliumNode, demand: &NodeDemand, cidrs: &[IpNet], rotation: &mut Rotation) -> Plan {
    let mut ledger = old.clone();
    // Owned by its Node, it would be deleted with it, and its addresses be free before everybody has forgotten them.
    ledger.node_uid = None;
    let new = cidrs.iter().filter(|cidr| !old.pod_cidrs.contains(cidr)).copied();
    match (&demand.multi, &*demand.given) {
        (Some(multi), _) => {
            cidrs.iter().for_each(|cidr| multi.give(&mut ledger, *cidr));
            ledger.requested = multi.requested.clone();
        }
        (None, []) => ledger.pod_cidrs = old.pod_cidrs.iter().copied().chain(new).collect(),
        (None, given) => ledger.pod_cidrs = given.into(),
    }
    ledger.addresses = addresses(&ledger, &demand.node, demand.multi.is_some());
    let mut plan = Plan { ledger, assigned: 0, freed: Vec::new(), short: Vec::new() };
    for release in &demand.release {
        if plan.ledger.pool.get(&release.address).is_some_and(|entry| entry.resource == release.resource) {
            plan.ledger.pool.remove(&release.address);
            plan.freed.push(release.address);
        }
    }
    let mut have = plan.holders();
    for adoption in &demand.adopt {
        match plan.ledger.pool.get(&adoption.address) {
            None => {
                plan.enter(adoption.address, &adoption.owner, &adoption.resource);
                have.insert((Arc::clone(&adoption.resource), adoption.address.is_ipv6()));
            }
            Some(entry) if entry.resource == adoption.resource => {}
            Some(entry) => {
                let message = format!("its address {} belongs to {}", adoption.address, entry.owner);
                plan.short.push(Shortage { pod: adoption.owner.clone(), message });
            }
        }
    }
    for pod in &demand.assign {
        for (wanted, v6) in [(pod.families.v4, false), (pod.families.v6, true)] {
            if !wanted || have.contains(&(Arc::clone(&pod.resource), v6)) {
                continue;
            }
            match plan.choose(v6, demand, &pod.pools[usize::from(v6)], rotation) {
                Ok(address) => plan.enter(address, &pod.owner, &pod.resource),
                Err(message) => plan.short.push(Shortage { pod: pod.owner.clone(), message }),
            }
        }
    }
    if let Some(multi) = &demand.multi {
        for cidr in multi.surplus(&plan.ledger, demand.node.max_pods) {
            // What this very write frees is given back with the next one, as if others could have it at once.
            if !plan.freed.iter().any(|address| cidr.contains(address)) {
                take_back(&mut plan.ledger, &cidr);
            }
        }
    }
    plan
}

impl Plan {
    /// Who has an address of which family.
    fn holders(&self) -> BTreeSet<(Arc<str>, bool)> {
        self.ledger.pool.iter().map(|(address, entry)| (Arc::clone(&entry.resource), address.is_ipv6())).collect()
    }

    fn enter(&mut self, address: IpAddr, owner: &Name, resource: &Arc<str>) {
        let entry = PoolEntry { owner: Arc::from(owner.to_string()), resource: Arc::clone(resource) };
        self.ledger.pool.insert(address, entry);
        self.assigned += 1;
    }

    fn choose(&self, v6: bool, demand: &NodeDemand, pool: &str, rotation: &mut Rotation) -> Result<IpAddr, String> {
        let (node, multi) = (&demand.node, demand.multi.as_ref());
        let family = if v6 { "IPv6" } else { "IPv4" };
        let mut parts = parts(&self.ledger, node.max_pods, multi.is_some());
        parts.retain(|part| part.pool == pool && part.cidr.addr().is_ipv6() == v6);
        parts.retain(|part| multi.is_none_or(|multi| multi.may_assign(part)));
        if parts.is_empty() {
            return Err(match multi {
                None => format!("node {} has no {family} pod CIDR yet", node.name),
                Some(_) => format!("node {} has no {family} CIDR of pool {pool}", node.name),
            });
        }
        for range in parts.iter().filter_map(|part| part.assignable) {
            // An address that this very write frees is not given away by it.
            let free = |address| !self.ledger.pool.contains_key(&address) && !self.freed.contains(&address);
            if let Some(address) = rotation.take(&node.name, range, free) {
                return Ok(address);
            }
        }
        let cidrs = parts.iter().map(|part| part.cidr.to_string()).collect::<Vec<_>>().join(", ");
        Err(format!("no {family} address is left in pool {pool} of node {} ({cidrs})", node.name))
    }
}

/// The Node's InternalIPs and the overlay address per family; addresses of other types stay.
fn addresses(ledger: &CiliumNode, node: &Node, multi_pool: bool) -> Box<[LedgerAddress]> {
    let entry = |kind: &str, ip| LedgerAddress { kind: kind.into(), ip };
    let internal = node.internal_ips.iter().map(|ip| entry(INTERNAL_IP, *ip));
    let overlays = overlays(ledger, node.max_pods, multi_pool);
    let overlay = overlays.into_iter().map(|ip| entry(CILIUM_INTERNAL_IP, ip));
    let ours = |kind: &str| matches!(kind, INTERNAL_IP | CILIUM_INTERNAL_IP);
    let others = ledger.addresses.iter().filter(|address| !ours(&address.kind)).cloned();
    internal.chain(overlay).chain(others).collect()
}
