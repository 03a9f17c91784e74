//! What one node's ledger lacks, and what it could give back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::demands::{AddressDemand, Adoption, Families, NodeDemand, Unmet, UnmetReason};
use super::pools::MultiPool;
use crate::compile::cluster::OVERLAY;
use crate::compile::pool::overlays;
use crate::config::IpamMode;
use crate::index::{Entry, Index, NoPool, PodEntry};
use crate::object::{CiliumNode, DEFAULT_POOL, Kind, Node, ObjectKey};

/// A node's part of the demands, without releases: those depend on acks and so on time.
#[derive(Debug, Default, PartialEq)]
pub struct LedgerView {
    /// What has to be written; `None` when nothing has, or when there is no Node.
    pub demand: Option<NodeDemand>,
    /// Entries for which no pod stands any more.
    pub unowned: BTreeSet<Entry>,
    /// What waits.
    pub unmet: Vec<Unmet>,
}

/// Compares a node, its pods and its attachments with its ledger.
#[must_use]
pub fn view(index: &Index, name: &Arc<str>) -> LedgerView {
    let ledger = index.ledger(name);
    let mut view = LedgerView { unowned: unowned(index, name), ..LedgerView::default() };
    let Some(node) = index.node(name) else {
        for pod in index.pods_on(name).filter(|pod| waits(pod)) {
            view.unmet.push(unmet(pod, UnmetReason::NoNode(Arc::clone(name))));
        }
        return view;
    };
    let wanted = index.config().families;
    let ipam = index.config().ipam;
    let kubernetes = given_cidrs(node, wanted, ipam);
    let held: &[IpNet] = match ipam {
        IpamMode::Kubernetes => &kubernetes,
        _ => ledger.map(|ledger| &*ledger.pod_cidrs).unwrap_or_default(),
    };
    let have = families(held.iter().map(IpNet::network));
    let missing_cidrs = missing(wanted, have);
    let mut demand = NodeDemand {
        node: Arc::clone(node),
        ledger: ledger.cloned(),
        cidrs: if ipam == IpamMode::ClusterPool { missing_cidrs } else { Families::default() },
        given: kubernetes.iter().copied().filter(|_| ledger.is_none_or(|l| *l.pod_cidrs != *kubernetes)).collect(),
        addresses_differ: ledger.is_some_and(|ledger| addresses_differ(node, ledger, ipam)),
        owned: ledger.is_some_and(|ledger| ledger.node_uid.is_some()),
        multi: None,
        assign: Vec::new(),
        adopt: adoptions(index, name),
        release: Vec::new(),
    };
    if ipam == IpamMode::Kubernetes && !missing_cidrs.is_empty() {
        let object = ObjectKey::cluster(Kind::Node, name);
        view.unmet.push(Unmet { object, reason: UnmetReason::NoPodCidr(missing_cidrs) });
    }
    let assigns = ipam != IpamMode::DelegatedPlugin;
    for pod in index.pods_on(name).filter(|pod| assigns && waits(pod)) {
        let key = pod.pod.endpoint_key();
        let adopted = demand.adopt.iter().filter(|adoption| adoption.resource == *key).map(|adoption| adoption.address);
        let lacks = missing(wanted, families(index.given(name, key).chain(adopted)));
        let mut pools = [DEFAULT_POOL, DEFAULT_POOL].map(Arc::from);
        let families = if ipam == IpamMode::MultiPool {
            let (families, reasons) = pools_of(index, pod, lacks, &mut pools);
            view.unmet.extend(reasons.into_iter().map(|reason| unmet(pod, UnmetReason::NoPool(reason))));
            families
        } else {
            let families = Families { v4: lacks.v4 && have.v4, v6: lacks.v6 && have.v6 };
            if families != lacks {
                view.unmet.push(unmet(pod, UnmetReason::NoCidr(Arc::clone(name))));
            }
            families
        };
        if !families.is_empty() {
            let (owner, resource) = (pod.pod.name.clone(), Arc::clone(key));
            demand.assign.push(AddressDemand { owner, resource, families, pools });
        }
        view.unmet.extend(conflicts(index, name, pod));
    }
    demand.multi = multi_pool(index, name, &demand.assign);
    let pools_differ = |multi: &MultiPool| {
        ledger.is_some_and(|ledger| {
            ledger.requested != multi.requested
                || !multi.missing(ledger, node.max_pods).is_empty()
                || !multi.surplus(ledger, node.max_pods).is_empty()
        })
    };
    view.demand = Some(demand).filter(|demand| {
        demand.ledger.is_none()
            || demand.multi.as_ref().is_some_and(pools_differ)
            || demand.addresses_differ
            || demand.owned
            || !demand.cidrs.is_empty()
            || !demand.given.is_empty()
            || !demand.assign.is_empty()
            || !demand.adopt.is_empty()
    });
    view
}

/// What a node shall have of pools, in the mode that has any.
fn multi_pool(index: &Index, name: &str, assign: &[AddressDemand]) -> Option<MultiPool> {
    let config = index.config();
    let of = || {
        let (ledger, specs) = (index.ledger(name).map(|ledger| &**ledger), index.pools().specs());
        MultiPool::of(ledger, assign, specs, config.families, &config.pre_allocation)
    };
    (config.ipam == IpamMode::MultiPool).then(of)
}

/// The pools of the families that a pod lacks; gives back the families that have one, and why others have none.
fn pools_of(index: &Index, pod: &PodEntry, lacks: Families, pools: &mut [Arc<str>; 2]) -> (Families, BTreeSet<NoPool>) {
    let (mut families, mut reasons) = (Families::default(), BTreeSet::new());
    for (lacks, v6) in [(lacks.v4, false), (lacks.v6, true)] {
        if !lacks {
            continue;
        }
        match index.pool_of(pod, v6) {
            Ok(pool) => {
                pools[usize::from(v6)] = pool;
                families = Families { v4: families.v4 || !v6, v6: families.v6 || v6 };
            }
            Err(reason) => drop(reasons.insert(reason)),
        }
    }
    (families, reasons)
}

/// The demand of a node that only has to give back.
#[must_use]
pub fn release_only(index: &Index, name: &str) -> Option<NodeDemand> {
    Some(NodeDemand {
        node: Arc::clone(index.node(name)?),
        ledger: index.ledger(name).cloned(),
        cidrs: Families::default(),
        given: [].into(),
        addresses_differ: false,
        owned: false,
        multi: multi_pool(index, name, &[]),
        assign: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    })
}

/// What Kubernetes has given to a node, of the families that are enabled.
fn given_cidrs(node: &Node, families: Families, ipam: IpamMode) -> Vec<IpNet> {
    let enabled = |cidr: &&IpNet| if cidr.addr().is_ipv6() { families.v6 } else { families.v4 };
    let given = node.pod_cidrs.iter().filter(|_| ipam == IpamMode::Kubernetes);
    given.filter(enabled).map(IpNet::trunc).collect()
}

/// Pods that need an address: with a network of their own, and with a future.
fn waits(pod: &PodEntry) -> bool {
    pod.set.is_some() && !pod.pod.finished && !pod.pod.deleting
}

fn unmet(pod: &PodEntry, reason: UnmetReason) -> Unmet {
    Unmet { object: ObjectKey::namespaced(Kind::Pod, &pod.pod.name), reason }
}

fn families(addresses: impl Iterator<Item = IpAddr>) -> Families {
    addresses.fold(Families::default(), |have, address| Families {
        v4: have.v4 || address.is_ipv4(),
        v6: have.v6 || address.is_ipv6(),
    })
}

fn missing(wanted: Families, have: Families) -> Families {
    Families { v4: wanted.v4 && !have.v4, v6: wanted.v6 && !have.v6 }
}

fn unowned(index: &Index, name: &Arc<str>) -> BTreeSet<Entry> {
    let pool = index.ledger(name).into_iter().flat_map(|ledger| &ledger.pool);
    let entries = pool.map(|(address, entry)| Entry {
        address: *address,
        resource: Arc::clone(&entry.resource),
        node: Arc::clone(name),
    });
    entries.filter(|entry| index.claimant(entry).is_none()).collect()
}

fn conflicts(index: &Index, name: &str, pod: &PodEntry) -> Vec<Unmet> {
    let lost = index.given(name, pod.pod.endpoint_key()).filter_map(|address| {
        let shown = index.shown_claim(address)?;
        (shown.resource != *pod.pod.endpoint_key() || *shown.node != *name)
            .then(|| (address, Arc::clone(&shown.resource)))
    });
    lost.map(|(address, other)| unmet(pod, UnmetReason::Conflict { address, other })).collect()
}

/// Addresses that are in use and that the ledger does not know: the node chose them while no operator answered, or the ledger was
/// lost. One that the ledger gives to another pod stays unknown:
/// the ledger decides, and the conflict shows on the node.
fn adoptions(index: &Index, name: &str) -> Vec<Adoption> {
    let Some(ledger) = index.ledger(name) else { return Vec::new() };
    let mut adopted = Vec::new();
    for (key, attachment) in index.attachments_on(name) {
        let ours = |address: &&IpAddr| ledger.cidrs().any(|cidr| cidr.contains(*address));
        for address in attachment.addresses.iter().filter(ours) {
            if !ledger.pool.contains_key(address) {
                adopted.push(Adoption { address: *address, owner: attachment.pod.clone(), resource: Arc::clone(key) });
            }
        }
    }
    adopted.sort();
    adopted
}

fn addresses_differ(node: &Node, ledger: &CiliumNode, ipam: IpamMode) -> bool {
    let overlays = overlays(ledger, node.max_pods, ipam == IpamMode::MultiPool);
    let wanted: BTreeSet<(&str, IpAddr)> = node
        .internal_ips
        .iter()
        .map(|ip| ("InternalIP", *ip))
        .chain(overlays.into_iter().map(|ip| (OVERLAY, ip)))
        .collect();
    let kinds = ["InternalIP", OVERLAY];
    let have = ledger.addresses.iter().filter(|entry| kinds.contains(&&*entry.kind));
    have.map(|entry| (&*entry.kind, entry.ip)).collect::<BTreeSet<_>>() != wanted
}
