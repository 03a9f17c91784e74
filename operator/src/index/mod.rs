//! All inputs, joined.
//!
//! The index holds every object and what can be looked up by which. Applying a change says which outputs it can touch
//! ([`Dirty`]); nothing is ever indexed again as a whole. The compile stage reads it through the methods of [`Index`].

mod attachments;
mod dirty;
mod identities;
pub mod labels;
mod ledger;
mod node_configs;
mod pods;
mod policies;
mod pools;
mod selectors;
mod services;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub use attachments::Attachment;
pub use dirty::Dirty;
pub use identities::{LabelSet, SetId, Unnumbered};
pub use ledger::Entry;
pub use pods::PodEntry;
pub use policies::PolicyEntry;
pub use pools::{NoPool, PoolSpec, PoolSpecs};

use crate::config::IpamMode;
use crate::engine::{Families, Observed, PreAllocation};
use crate::identity::Reserved;
use crate::object::{
    CiliumIdentity, CiliumNode, Kind, MasqueradeAgent, Name, Namespace, Node, Object, ObjectKey, PodIpPool,
};
use attachments::Attachments;
use identities::LabelSets;
use ledger::Ledgers;
use node_configs::NodeConfigs;
use pods::Pods;
use policies::Policies;
use pools::Pools;
use selectors::Selectors;
use services::Services;

/// Numbers that an allocated identity may have.
pub(crate) const CLUSTER_IDENTITIES: std::ops::RangeInclusive<u32> = 256..=0xff_ffff;

/// What of the configuration the index needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name, part of every identity.
    pub cluster: Arc<str>,
    /// Address families of pods.
    pub families: Families,
    /// Who gives pods their addresses.
    pub ipam: IpamMode,
    /// Label sets whose numbers are fixed.
    pub reserved: Arc<[Reserved]>,
    /// Addresses that nodes keep ready, in mode multi-pool.
    pub pre_allocation: Arc<PreAllocation>,
}

/// All inputs, joined.
#[derive(Debug)]
pub struct Index {
    config: Config,
    namespaces: HashMap<Arc<str>, Arc<Namespace>>,
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    ledgers: Ledgers,
    attachments: Attachments,
    pods: Pods,
    sets: LabelSets,
    selectors: Selectors,
    policies: Policies,
    services: Services,
    ip_pools: Pools,
    masquerade: Option<Arc<MasqueradeAgent>>,
    node_configs: NodeConfigs,
    dirty: Dirty,
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut index = Self {
            config,
            namespaces: HashMap::new(),
            nodes: BTreeMap::new(),
            ledgers: Ledgers::default(),
            attachments: Attachments::default(),
            pods: Pods::default(),
            sets: LabelSets::default(),
            selectors: Selectors::default(),
            policies: Policies::default(),
            services: Services::default(),
            ip_pools: Pools::default(),
            masquerade: None,
            node_configs: NodeConfigs::default(),
            dirty: Dirty::default(),
        };
        for reserved in Arc::clone(&index.config.reserved).iter() {
            let set = index.intern_set(&reserved.labels);
            index.sets.add_identity(set, Arc::new(reserved.object()));
        }
        index
    }

    /// The outputs touched since this was last asked.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// An object exists with this content.
    pub fn upsert(&mut self, object: Object) {
        match object {
            Object::Pod(pod) => {
                let name = pod.name.clone();
                self.set_pod(&name, Some(pod));
            }
            Object::Node(node) => {
                let name = Arc::clone(&node.name);
                self.set_node(&name, Some(node));
            }
            Object::Namespace(namespace) => {
                let name = Arc::clone(&namespace.name);
                self.set_namespace(&name, Some(namespace));
            }
            Object::Service(service) => {
                let name = service.name.clone();
                self.services.set_service(&name, Some(service), &mut self.dirty);
            }
            Object::EndpointSlice(slice) => {
                let name = slice.name.clone();
                self.services.set_slice(&name, Some(slice), &mut self.dirty);
            }
            Object::NetworkPolicy(policy) => {
                let name = policy.name.clone();
                self.set_policy(&name, Some(&policy));
            }
            Object::CiliumIdentity(identity) => self.set_identity(identity.id, Some(identity)),
            Object::CiliumNode(ledger) => {
                let name = Arc::clone(&ledger.name);
                self.set_ledger(&name, Some(ledger));
            }
            Object::CiliumPodIPPool(pool) => {
                let name = Arc::clone(&pool.name);
                self.set_pool(&name, Some(pool));
            }
            Object::CiliumNodeConfig(config) => {
                let name = config.name.clone();
                self.set_node_config(&name, Some(config));
            }
            Object::ConfigMap(agent) => self.set_masquerade(Some(agent)),
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &ObjectKey) {
        let name = &key.name;
        match key.kind {
            Kind::Pod => self.set_pod(name, None),
            Kind::Node => self.set_node(&name.name, None),
            Kind::Namespace => self.set_namespace(&name.name, None),
            Kind::Service => self.services.set_service(name, None, &mut self.dirty),
            Kind::EndpointSlice => self.services.set_slice(name, None, &mut self.dirty),
            Kind::NetworkPolicy => self.set_policy(name, None),
            Kind::CiliumIdentity => {
                if let Ok(id) = name.name.parse() {
                    self.set_identity(id, None);
                }
            }
            Kind::CiliumNode => self.set_ledger(&name.name, None),
            Kind::CiliumPodIPPool => self.set_pool(&name.name, None),
            Kind::CiliumNodeConfig => self.set_node_config(name, None),
            Kind::ConfigMap => self.set_masquerade(None),
        }
    }

    /// A node says what it has attached.
    pub fn observe(&mut self, node: &Arc<str>, event: &Observed) {
        let changed = self.attachments.observe(node, event);
        self.attachments_changed(node, &changed);
        if matches!(event, Observed::AllAttached(_)) {
            // What was not named is known to be detached now.
            self.dirty.ledgers.insert(Arc::clone(node));
            for name in self
                .pods
                .on_node(node)
                .filter(|pod| pod.pod.finished || self.config.ipam == IpamMode::DelegatedPlugin)
                .map(|pod| pod.pod.name.clone())
                .collect::<Vec<_>>()
            {
                self.refresh_pod(&name);
            }
        }
    }

    fn set_pool(&mut self, name: &Arc<str>, pool: Option<Arc<PodIpPool>>) {
        let said = self.ip_pools.set(name, pool);
        self.dirty.pools.extend(said);
        self.dirty.pools.insert(Arc::clone(name));
        if self.config.ipam == IpamMode::MultiPool {
            self.dirty.ledgers.extend(self.nodes.keys().cloned());
        }
    }

    fn set_masquerade(&mut self, agent: Option<Arc<MasqueradeAgent>>) {
        self.dirty.settings |= self.masquerade != agent;
        self.masquerade = agent;
    }

    fn attachments_changed(&mut self, node: &Arc<str>, endpoints: &[Arc<str>]) {
        for endpoint in endpoints {
            if let Some(name) = self.pods.holder(endpoint).map(|pod| pod.pod.name.clone()) {
                self.refresh_pod(&name);
            }
        }
        if !endpoints.is_empty() {
            self.dirty.ledgers.insert(Arc::clone(node));
        }
    }

    fn set_node(&mut self, name: &Arc<str>, node: Option<Arc<Node>>) {
        let old = match &node {
            Some(node) => self.nodes.insert(Arc::clone(name), Arc::clone(node)),
            None => self.nodes.remove(name),
        };
        if let (Some(old), Some(new)) = (&old, &node) {
            // A heartbeat changes nothing but the version.
            let heartbeat = Node { resource_version: Arc::clone(&new.resource_version), ..Node::clone(old) };
            if heartbeat == **new {
                return;
            }
        } else if old == node {
            return;
        }
        self.dirty.nodes.insert(Arc::clone(name));
        self.dirty.node_settings.insert(Arc::clone(name));
        self.dirty.ledgers.insert(Arc::clone(name));
        self.dirty.scopes.insert(Arc::clone(name));
        // A node that was registered again starts with nothing attached.
        let same = matches!((&old, &node), (Some(old), Some(new)) if old.uid == new.uid) || old.is_none();
        if !same {
            let gone = self.attachments.forget(name);
            self.attachments_changed(name, &gone);
        }
        let pods: Vec<Name> = self.pods.on_node(name).map(|pod| pod.pod.name.clone()).collect();
        for pod in &pods {
            self.refresh_pod(pod);
        }
    }

    fn set_namespace(&mut self, name: &Arc<str>, namespace: Option<Arc<Namespace>>) {
        let old = match &namespace {
            Some(namespace) => self.namespaces.insert(Arc::clone(name), Arc::clone(namespace)),
            None => self.namespaces.remove(name),
        };
        if old == namespace {
            return;
        }
        self.refresh_namespace(name);
    }

    fn set_ledger(&mut self, name: &Arc<str>, ledger: Option<Arc<CiliumNode>>) {
        if self.ledgers.get(name) == ledger.as_ref() {
            return;
        }
        self.dirty.nodes.insert(Arc::clone(name));
        self.dirty.ledgers.insert(Arc::clone(name));
        let pools = self.ledgers.get(name).into_iter().chain(&ledger).flat_map(|ledger| &ledger.pools);
        self.dirty.pools.extend(pools.map(|pool| Arc::clone(&pool.name)));
        for entry in self.ledgers.set(name, ledger) {
            self.dirty.pods.extend(self.pods.holder(&entry.resource).map(|pod| pod.pod.name.clone()));
            self.mark_claimants(entry.address);
        }
    }

    fn set_identity(&mut self, id: u32, object: Option<Arc<CiliumIdentity>>) {
        // Other numbers are reserved, or would mean something else in the kernel's keys.
        if !CLUSTER_IDENTITIES.contains(&id) {
            return;
        }
        self.dirty.usage.insert(id);
        let old = self.sets.object(id);
        if let (Some(old), Some(new)) = (old, &object)
            && old.labels == new.labels
        {
            self.sets.refresh_identity(Arc::clone(new));
            return;
        }
        // Somebody has deleted what pods use: nothing changes for them until it is there again.
        if object.is_none() && self.sets.lose_identity(id) {
            return;
        }
        if let Some(set) = self.change_numbers(None, id) {
            self.drop_set_if_unused(set);
        }
        if let Some(object) = object {
            let set = self.intern_set(&object.labels);
            self.change_numbers(Some((set, object)), id);
        }
    }

    /// Adds (to the given set) or removes a number, and marks what that touches. Gives back the set.
    fn change_numbers(&mut self, add: Option<(SetId, Arc<CiliumIdentity>)>, id: u32) -> Option<SetId> {
        let set = match &add {
            Some((set, _)) => *set,
            None => self.sets.set_of(id)?,
        };
        let before = self.sets.get(set).and_then(LabelSet::identity);
        match add {
            Some((set, object)) => self.sets.add_identity(set, object),
            None => drop(self.sets.remove_identity(id)),
        }
        let after = self.sets.get(set).and_then(LabelSet::identity);
        self.dirty.usage.extend(before.iter().chain(&after));
        if before != after {
            self.dirty.identities.extend(before.iter().chain(&after));
            self.set_changed_as_peer(set);
            if self.sets.get(set).is_some_and(|set| !set.ports.is_empty()) {
                self.mark_policies_naming_ports();
            }
            let pods: Vec<Name> = self.sets.get(set).map(|set| set.pods.iter().cloned().collect()).unwrap_or_default();
            for pod in pods {
                self.dirty.scopes.extend(self.pods.get(&pod).and_then(|entry| entry.pod.node.clone()));
                self.mark_pod(&pod);
            }
            let next = self.sets.get(set).map(|set| set.next.clone()).unwrap_or_default();
            for namespace in next.iter().map(|pod| &pod.namespace).collect::<HashSet<_>>() {
                self.change_over(namespace);
            }
        }
        Some(set)
    }

    /// The set of these labels; a new one is shown to all selectors.
    fn intern_set(&mut self, labels: &Arc<crate::object::Labels>) -> SetId {
        let (set, new) = self.sets.intern(labels);
        if new {
            self.selectors.add_set(set, labels);
        }
        set
    }

    fn drop_set_if_unused(&mut self, set: SetId) {
        if let Some(lost) = self.sets.forsaken(set) {
            self.change_numbers(None, lost);
        }
        if let Some(gone) = self.sets.forget_if_unused(set) {
            self.selectors.remove_set(set, &gone);
        }
    }

    /// The set came, went, or has other numbers or ports: policies that have it as a peer compile again.
    fn set_changed_as_peer(&mut self, id: SetId) {
        let Some(set) = self.sets.get(id) else { return };
        let policies: HashSet<&Name> =
            self.selectors.matching(&set.labels).flat_map(|selected| &selected.peers).collect();
        for policy in policies {
            Self::mark_subjects(&self.policies, &self.selectors, &self.sets, &mut self.dirty, policy);
        }
    }
}

/// What the compile stage reads.
impl Index {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What else is not masqueraded to.
    #[must_use]
    pub fn masquerade(&self) -> Option<&MasqueradeAgent> {
        self.masquerade.as_deref()
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// All nodes, sorted.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// A node's ledger.
    #[must_use]
    pub fn ledger(&self, node: &str) -> Option<&Arc<CiliumNode>> {
        self.ledgers.get(node)
    }

    /// All ledgers, sorted.
    pub fn ledgers(&self) -> impl Iterator<Item = &Arc<CiliumNode>> {
        self.ledgers.iter()
    }
}
