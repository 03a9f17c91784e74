//! Pools, and which of them a pod's addresses are of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::labels::NAMESPACE;
use super::{Index, PodEntry};
use crate::config::IpamMode;
use crate::engine::{Diagnostic, Reason};
use crate::object::{DEFAULT_POOL, Labels, PodIpPool, PoolCidrs, REQUIRE_POOL_MATCH};

/// Label that `spec.podSelector` may ask for: the pod's name. The other one is its namespace.
const POD_NAME: &str = "io.kubernetes.pod.name";

/// What nodes may be given, by pool: without what an older pool has.
pub type PoolSpecs = BTreeMap<Arc<str>, PoolSpec>;

/// What nodes may be given of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// IPv4.
    pub ipv4: PoolCidrs,
    /// IPv6.
    pub ipv6: PoolCidrs,
    /// The first address of what a node is given may be a pod's.
    pub allow_first_ip: bool,
    /// The last one may.
    pub allow_last_ip: bool,
}

impl PoolSpec {
    /// Its part of a family.
    #[must_use]
    pub fn family(&self, v6: bool) -> &PoolCidrs {
        if v6 { &self.ipv6 } else { &self.ipv4 }
    }

    /// Whether what a node has of this pool is still of it.
    #[must_use]
    pub fn has(&self, cidr: &IpNet) -> bool {
        self.family(cidr.addr().is_ipv6()).cidrs.iter().any(|of| of.contains(cidr))
    }
}

/// Why no pool is a pod's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NoPool {
    /// It names one that does not exist.
    #[error("{named_by} names the CiliumPodIPPool {pool}, which does not exist")]
    Unknown {
        /// The pool.
        pool: Arc<str>,
        /// Field of which object.
        named_by: String,
    },
    /// There is no default one.
    #[error("no CiliumPodIPPool is named for it or selects it, and there is none with the name {DEFAULT_POOL}")]
    NoDefault,
    /// There may be a default one, and it is not wanted.
    #[error(
        "no CiliumPodIPPool is named for it or selects it, and {said_by} keeps it from the one with the name {DEFAULT_POOL}"
    )]
    NotDefault {
        /// Field of which object.
        said_by: String,
    },
    /// The pool has no CIDR of the family.
    #[error("CiliumPodIPPool {pool} has no {family} CIDR that can be used")]
    Family {
        /// The pool.
        pool: Arc<str>,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// More than one selects it.
    #[error("CiliumPodIPPools {} select it; name one by the annotation ipam.cilium.io/ip-pool", .pools.join(" and "))]
    Ambiguous {
        /// Their names.
        pools: Vec<Arc<str>>,
    },
}

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    pools: BTreeMap<Arc<str>, Arc<PodIpPool>>,
    specs: Arc<PoolSpecs>,
    /// By pool.
    overlaps: BTreeMap<Arc<str>, Vec<Overlap>>,
}

/// What a pool names and an older one has.
#[derive(Debug)]
struct Overlap {
    field: &'static str,
    cidr: IpNet,
    owner: Arc<str>,
}

impl Pools {
    /// What nodes may be given.
    #[must_use]
    pub fn specs(&self) -> &Arc<PoolSpecs> {
        &self.specs
    }

    /// A pool changed; gives back the pools of which something else is to be said.
    pub fn set(&mut self, name: &Arc<str>, pool: Option<Arc<PodIpPool>>) -> BTreeSet<Arc<str>> {
        match pool {
            Some(pool) => drop(self.pools.insert(Arc::clone(name), pool)),
            None => drop(self.pools.remove(name)),
        }
        let mut specs = PoolSpecs::new();
        let mut overlaps: BTreeMap<Arc<str>, Vec<Overlap>> = BTreeMap::new();
        let mut taken: Vec<(IpNet, Arc<str>)> = Vec::new();
        let mut by_age: Vec<&Arc<PodIpPool>> = self.pools.values().collect();
        by_age.sort_by_key(|pool| (pool.created, Arc::clone(&pool.name)));
        for pool in by_age {
            let mut free = |v6: bool| {
                let family = pool.family(v6);
                let mut cidrs = Vec::new();
                for cidr in &family.cidrs {
                    let other = taken
                        .iter()
                        .find(|(of, owner)| *owner != pool.name && (of.contains(cidr) || cidr.contains(of)));
                    if let Some((_, owner)) = other {
                        let field = if v6 { "spec.ipv6.cidrs" } else { "spec.ipv4.cidrs" };
                        let overlap = Overlap { field, cidr: *cidr, owner: Arc::clone(owner) };
                        overlaps.entry(Arc::clone(&pool.name)).or_default().push(overlap);
                    } else {
                        cidrs.push(*cidr);
                    }
                }
                taken.extend(cidrs.iter().map(|cidr| (*cidr, Arc::clone(&pool.name))));
                PoolCidrs { cidrs: cidrs.into(), mask: family.mask }
            };
            let (ipv4, ipv6) = (free(false), free(true));
            let (allow_first_ip, allow_last_ip) = (pool.allow_first_ip, pool.allow_last_ip);
            specs.insert(Arc::clone(&pool.name), PoolSpec { ipv4, ipv6, allow_first_ip, allow_last_ip });
        }
        let said: BTreeSet<Arc<str>> = self.overlaps.keys().chain(overlaps.keys()).cloned().collect();
        self.specs = Arc::new(specs);
        self.overlaps = overlaps;
        said
    }

    fn selecting(&self, own: &Labels, namespace: &Labels) -> impl Iterator<Item = &Arc<PodIpPool>> {
        self.pools.values().filter(move |pool| {
            let selects = pool.pod_selector.is_some() || pool.namespace_selector.is_some();
            selects
                && pool.pod_selector.as_ref().is_none_or(|selector| selector.matches(own))
                && pool.namespace_selector.as_ref().is_none_or(|selector| selector.matches(namespace))
        })
    }
}

/// What IPAM asks.
impl Index {
    pub(super) fn set_pool(&mut self, name: &Arc<str>, pool: Option<Arc<PodIpPool>>) {
        let said = self.ip_pools.set(name, pool);
        self.dirty.pools.extend(said);
        self.dirty.pools.insert(Arc::clone(name));
        if self.config.ipam == IpamMode::MultiPool {
            self.dirty.ledgers.extend(self.nodes.keys().cloned());
        }
    }

    /// All pools.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.ip_pools
    }

    /// The pool from which a pod gets its address of a family: named by its annotations, else by its namespace's, else one that
    /// selects it, else the default unless an annotation of either says that it shall wait for another one.
    ///
    /// # Errors
    /// When there is no such pool, or not one alone.
    pub fn pool_of(&self, entry: &PodEntry, v6: bool) -> Result<Arc<str>, NoPool> {
        let pod = &entry.pod;
        let namespace = self.namespaces.get(&pod.name.namespace);
        let of_pod = pod.pools.of(v6).map(|(pool, key)| (pool, format!("metadata.annotations[{key}]")));
        let of_namespace = || {
            let (pool, key) = namespace?.pools.of(v6)?;
            Some((pool, format!("metadata.annotations[{key}] of Namespace {}", pod.name.namespace)))
        };
        let pool = match of_pod.or_else(of_namespace) {
            Some((pool, named_by)) => match self.ip_pools.pools.contains_key(pool) {
                true => Arc::clone(pool),
                false => return Err(NoPool::Unknown { pool: Arc::clone(pool), named_by }),
            },
            None => match self.selected_pool(entry, v6)? {
                Some(pool) => pool,
                None => self.default_pool(entry)?,
            },
        };
        match self.ip_pools.specs.get(&pool).is_some_and(|spec| !spec.family(v6).cidrs.is_empty()) {
            true => Ok(pool),
            false => Err(NoPool::Family { pool, family: if v6 { "IPv6" } else { "IPv4" } }),
        }
    }

    fn selected_pool(&self, entry: &PodEntry, v6: bool) -> Result<Option<Arc<str>>, NoPool> {
        let pod = &entry.pod;
        let own = pod.labels.iter().filter(|(key, _)| *key != NAMESPACE && *key != POD_NAME);
        let added = [(NAMESPACE, &*pod.name.namespace), (POD_NAME, &*pod.name.name)];
        let own: Labels = own.chain(added).collect();
        let none = Labels::default();
        let of_namespace = self.namespaces.get(&pod.name.namespace).map_or(&none, |namespace| &namespace.labels);
        let selecting = self.ip_pools.selecting(&own, of_namespace);
        let mut pools: Vec<Arc<str>> =
            selecting.filter(|pool| !pool.family(v6).cidrs.is_empty()).map(|pool| Arc::clone(&pool.name)).collect();
        match pools.len() {
            0 | 1 => Ok(pools.pop()),
            _ => Err(NoPool::Ambiguous { pools }),
        }
    }

    fn default_pool(&self, entry: &PodEntry) -> Result<Arc<str>, NoPool> {
        let (pod, namespace) = (&entry.pod, &entry.pod.name.namespace);
        let annotation = format!("metadata.annotations[{REQUIRE_POOL_MATCH}]");
        if pod.pools.match_required {
            return Err(NoPool::NotDefault { said_by: annotation });
        }
        if self.namespaces.get(namespace).is_some_and(|namespace| namespace.pools.match_required) {
            return Err(NoPool::NotDefault { said_by: format!("{annotation} of Namespace {namespace}") });
        }
        match self.ip_pools.pools.contains_key(DEFAULT_POOL) {
            true => Ok(Arc::from(DEFAULT_POOL)),
            false => Err(NoPool::NoDefault),
        }
    }

    /// What is wrong with a pool in the light of the others, and of what nodes have of it.
    #[must_use]
    pub fn pool_diagnostics(&self, name: &Arc<str>) -> Vec<Diagnostic> {
        if self.config.ipam != IpamMode::MultiPool && self.ip_pools.pools.contains_key(name) {
            return vec![Diagnostic {
                reason: Reason::Conflict,
                field: "".into(),
                message: "no pod is given an address of it: that needs ipam.mode multi-pool".into(),
            }];
        }
        let overlaps =
            self.ip_pools.overlaps.get(name).into_iter().flatten().map(|Overlap { field, cidr, owner }| Diagnostic {
                reason: Reason::Conflict,
                field: (*field).into(),
                message: format!(
                    "{cidr} overlaps with CiliumPodIPPool {owner}, which is older; nodes are given nothing of it"
                )
                .into(),
            });
        let mut diagnostics: Vec<Diagnostic> = overlaps.collect();
        let spec = self.ip_pools.specs.get(name);
        let mut left: BTreeMap<IpNet, &Arc<str>> = BTreeMap::new();
        for ledger in self.ledgers.iter() {
            let of_pool = ledger.pools.iter().filter(|pool| pool.name == *name).flat_map(|pool| &pool.cidrs);
            left.extend(of_pool.filter(|cidr| !spec.is_some_and(|spec| spec.has(cidr))).map(|c| (*c, &ledger.name)));
        }
        // For a pool that is gone there is no object to say it of: its nodes' CiliumNodes show what they have.
        if let (Some(_), Some((cidr, node))) = (spec, left.first_key_value()) {
            diagnostics.push(Diagnostic {
                reason: Reason::Conflict,
                field: "spec".into(),
                message: format!(
                    "{} CIDRs that nodes have are not of the pool any more, among them {cidr} of node {node}; they are given \
                     to no new pods, and back when their last pod is gone",
                    left.len()
                )
                .into(),
            });
        }
        diagnostics
    }
}
