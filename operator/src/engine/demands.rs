//! What has to be decided: the engine's view of what is missing or superfluous in the API's ledgers.
//!
//! A demand is a fact about the inputs and not an order: it stays until the echo of a write has settled it. Whoever acts must
//! therefore remember what is in flight, and may at any time start again from the newest snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::ledger::{self, LedgerView};
use super::pools::MultiPool;
use super::release::{Released, Releases};
use crate::index::{Index, NoPool, Unnumbered};
use crate::object::{CiliumIdentity, CiliumNode, Labels, Name, Node, ObjectKey};

/// More waiting things than this are not told one by one.
const MAX_UNMET: usize = 1_000;

/// A snapshot. Equal inputs give equal snapshots; everything is sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demands {
    /// All inputs are complete. Before that everything else is empty.
    pub complete: bool,
    /// Security labels of pods for which there is no `CiliumIdentity`: not yet, or not any more.
    pub identities: Vec<IdentityDemand>,
    /// Identities that no pod has had for the grace period and that every node has forgotten: may be deleted, guarded by the
    /// UID and resourceVersion given here.
    pub unused_identities: Vec<Arc<CiliumIdentity>>,
    /// Nodes whose ledger needs a write.
    pub nodes: Vec<NodeDemand>,
    /// Ledgers whose Node is gone, which every node has forgotten and whose addresses nobody uses any more: may be deleted.
    /// Until then nobody else is given their CIDRs and addresses. Without those that are to be kept.
    pub orphans: Vec<Arc<CiliumNode>>,
    /// All pod CIDRs in ledgers, with their node; filled only while some node lacks one.
    pub used_cidrs: Vec<(IpNet, Arc<str>)>,
    /// Demands that cannot be met now, and why. At most 1,000.
    pub unmet: Vec<Unmet>,
}

impl Demands {
    /// What complete inputs demand. `ledgers` is what each node's ledger lacks, `released` what may be given back.
    pub(super) fn of(index: &Index, ledgers: &BTreeMap<Arc<str>, LedgerView>, released: &Released) -> Self {
        let demand = |one: Unnumbered<'_>| IdentityDemand {
            labels: Arc::clone(one.labels),
            pod: one.pod.clone(),
            lost: one.lost,
        };
        let mut unmet: Vec<Unmet> = ledgers.values().flat_map(|view| view.unmet.iter().cloned()).collect();
        unmet.extend(released.unmet.iter().cloned());
        unmet.sort();
        unmet.truncate(MAX_UNMET);
        let nodes = nodes(index, ledgers, released);
        let lack = nodes.iter().any(NodeDemand::lacks_cidrs);
        let cidrs = |ledger: &Arc<CiliumNode>| -> Vec<_> {
            ledger.cidrs().map(|cidr| (*cidr, Arc::clone(&ledger.name))).collect()
        };
        let mut used_cidrs: Vec<_> = index.ledgers().filter(|_| lack).flat_map(cidrs).collect();
        used_cidrs.sort();
        let orphan = |ledger: &&Arc<CiliumNode>| {
            !ledger.keep && Releases::all_released(released, &ledger.name, ledger.pool.len())
        };
        Self {
            complete: true,
            identities: index.unnumbered().map(demand).collect(),
            unused_identities: released.identities.clone(),
            nodes,
            orphans: index.ledgers().filter(orphan).cloned().collect(),
            used_cidrs,
            unmet,
        }
    }
}

/// What ledgers lack, and what may be removed from them, by node.
fn nodes(index: &Index, ledgers: &BTreeMap<Arc<str>, LedgerView>, released: &Released) -> Vec<NodeDemand> {
    let mut nodes: BTreeMap<&Arc<str>, _> =
        ledgers.iter().filter_map(|(name, view)| Some((name, view.demand.clone()?))).collect();
    for (name, releases) in &released.entries {
        if !nodes.contains_key(name) {
            nodes.extend(ledger::release_only(index, name).map(|demand| (name, demand)));
        }
        if let Some(demand) = nodes.get_mut(name) {
            demand.release.clone_from(releases);
        }
    }
    nodes.into_values().collect()
}

/// A label set without a `CiliumIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDemand {
    /// `source:key` to value, as `CiliumIdentity.security-labels` has them.
    pub labels: Arc<Labels>,
    /// One of the pods that need it, for people.
    pub pod: Name,
    /// Its number, where somebody has deleted the object while pods used it: to be made anew with the same one.
    pub lost: Option<u32>,
}

/// A node whose ledger (`CiliumNode`) is not what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDemand {
    /// The node.
    pub node: Arc<Node>,
    /// Its ledger as last seen, with the resourceVersion to guard a write; none: to be created.
    pub ledger: Option<Arc<CiliumNode>>,
    /// Families of which a pod CIDR is missing.
    pub cidrs: Families,
    /// Pod CIDRs that it shall have instead of those it has: Kubernetes gave them to the Node. Empty: nothing to change.
    pub given: Box<[IpNet]>,
    /// `spec.addresses` does not say what it should: the Node's InternalIPs, and the overlay address (see
    /// [`crate::compile::pool::split`]) as `CiliumInternalIP`, for each family.
    pub addresses_differ: bool,
    /// The Node owns its ledger: with the Node, Kubernetes would delete it before its addresses are free.
    pub owned: bool,
    /// In mode multi-pool: what it shall have of which pool.
    pub multi: Option<MultiPool>,
    /// Pods bound here without an address.
    pub assign: Vec<AddressDemand>,
    /// Addresses that are attached and not in the ledger (given from the node's reserve, or the ledger was lost): to be entered
    /// as they are.
    pub adopt: Vec<Adoption>,
    /// Entries that nobody uses and every node has forgotten: to be removed, longest free first.
    pub release: Vec<Release>,
}

impl NodeDemand {
    /// Whether it needs a CIDR that it does not have.
    #[must_use]
    pub fn lacks_cidrs(&self) -> bool {
        let missing = |multi: &MultiPool| match &self.ledger {
            Some(ledger) => !multi.missing(ledger, self.node.max_pods).is_empty(),
            None => true,
        };
        !self.cidrs.is_empty() || self.multi.as_ref().is_some_and(missing)
    }
}

/// Address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.v4, self.v6) {
            (true, true) => "IPv4 and no IPv6",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            (false, false) => "other",
        })
    }
}

impl Families {
    /// Whether none is meant.
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.v4 && !self.v6
    }
}

/// A pod that needs an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressDemand {
    /// The pod: `owner` of the ledger entry.
    pub owner: Name,
    /// Its endpoint key: `resource` of the ledger entry.
    pub resource: Arc<str>,
    /// Families in which it has none yet.
    pub families: Families,
    /// The pools of its addresses, IPv4 and IPv6.
    pub pools: [Arc<str>; 2],
}

/// An address to be entered in the ledger as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Adoption {
    /// The address.
    pub address: IpAddr,
    /// The pod.
    pub owner: Name,
    /// Its endpoint key.
    pub resource: Arc<str>,
}

/// An entry to be removed from the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// The `resource` that the entry must still have.
    pub resource: Arc<str>,
}

/// Something that is needed and cannot be had now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// The object that waits.
    pub object: ObjectKey,
    /// For what.
    pub reason: UnmetReason,
}

/// Why a demand waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum UnmetReason {
    /// A pod is bound to a node that is not in the API.
    #[error("its node {0} does not exist")]
    NoNode(Arc<str>),
    /// A pod is bound to a node that has no pod CIDR of a family that it needs.
    #[error("its node {0} has no pod CIDR yet")]
    NoCidr(Arc<str>),
    /// Kubernetes has not given a Node a pod CIDR of these families.
    #[error(
        "spec.podCIDRs has no {0} prefix, so its pods get no address; ipam.mode kubernetes needs kube-controller-manager with \
         --allocate-node-cidrs=true and --cluster-cidr naming a prefix of each family"
    )]
    NoPodCidr(Families),
    /// No pool is a pod's.
    #[error(transparent)]
    NoPool(NoPool),
    /// An address or identity cannot be given back until these nodes have forgotten it.
    #[error("waits until {nodes:?} have forgotten it")]
    NotForgotten {
        /// At most three of them.
        nodes: Vec<Arc<str>>,
    },
    /// An address cannot be given back until its node has reported the pod's detachment.
    #[error("waits until node {0} has detached it")]
    Attached(Arc<str>),
    /// Two ledgers give the same address to different pods; neither pod is told to its peers by it.
    #[error("address {address} is also given to {other}")]
    Conflict {
        /// The address.
        address: IpAddr,
        /// The other owner.
        other: Arc<str>,
    },
}
