//! All inputs, joined.
//!
//! The index holds every object and what can be looked up by which. Applying a change says which outputs it can touch
//! ([`Dirty`]); nothing is ever indexed again as a whole. The compile stage reads it through the methods of [`Index`].

mod attachments;
mod by_label;
mod dirty;
mod hosts;
mod identities;
pub mod labels;
mod ledger;
mod node_configs;
mod pods;
mod policies;
mod pools;
mod selectors;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

pub use attachments::Attachment;
pub use dirty::Dirty;
pub use identities::{LabelSet, SetId, Unnumbered};
pub use ledger::Entry;
pub use pods::PodEntry;
pub use policies::{PolicyEntry, PolicyPart, Said};
pub use pools::{NoPool, PoolSpec, PoolSpecs};

use crate::compile::cluster::OVERLAY;
use crate::compile::policy::{self, Dependency, Emergency, Owners, ParsedPolicy};
use crate::config::IpamMode;
use crate::engine::{Families, Observed, PreAllocation};
use crate::identity::Reserved;
use crate::object::{CiliumNode, CiliumPolicy, Kind, MasqueradeAgent, Name, Namespace, Node, Object, ObjectKey};
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
    /// Whose addresses CIDRs in Cilium's policies mean.
    pub cidrs_of: Owners,
    /// What stays open where policies of nodes hold; none: they do not.
    pub host_firewall: Option<Emergency>,
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
    /// What stays open to and from nodes whatever policies say.
    emergency: Option<ParsedPolicy>,
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
            emergency: config.host_firewall.as_ref().map(Emergency::policy),
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
                self.set_service(&name, Some(service));
            }
            Object::EndpointSlice(slice) => {
                let name = slice.name.clone();
                self.set_slice(&name, Some(slice));
            }
            Object::NetworkPolicy(policy) => {
                let (parsed, diagnostics) = policy::parse(&policy);
                let key = ObjectKey::namespaced(Kind::NetworkPolicy, &policy.name);
                self.set_policy(&key, Some(PolicyEntry::of_one_part(parsed, diagnostics)));
            }
            Object::CiliumNetworkPolicy(policy) => {
                self.set_cilium_policy(&ObjectKey::namespaced(Kind::CiliumNetworkPolicy, &policy.name), &policy);
            }
            Object::CiliumClusterwideNetworkPolicy(policy) => {
                let key = ObjectKey::namespaced(Kind::CiliumClusterwideNetworkPolicy, &policy.name);
                self.set_cilium_policy(&key, &policy);
            }
            Object::ClusterNetworkPolicy(policy) => {
                let (parsed, diagnostics) = policy::tiered::parse(&policy);
                let key = ObjectKey::cluster(Kind::ClusterNetworkPolicy, &policy.name);
                self.set_policy(&key, Some(PolicyEntry::of_one_part(parsed, diagnostics)));
            }
            Object::CiliumCIDRGroup(group) => {
                let name = Arc::clone(&group.name);
                self.set_cidr_group(&name, Some(group));
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
            Kind::Service => self.set_service(name, None),
            Kind::EndpointSlice => self.set_slice(name, None),
            Kind::NetworkPolicy
            | Kind::CiliumNetworkPolicy
            | Kind::CiliumClusterwideNetworkPolicy
            | Kind::ClusterNetworkPolicy => self.set_policy(key, None),
            Kind::CiliumCIDRGroup => self.set_cidr_group(&name.name, None),
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

    fn set_cilium_policy(&mut self, key: &ObjectKey, policy: &CiliumPolicy) {
        let options = policy::cilium::Options {
            cidrs_of: self.config.cidrs_of,
            host_firewall: self.config.host_firewall.is_some(),
        };
        let policy::cilium::Parsed { parts, diagnostics, mentions } = policy::cilium::parse(policy, options);
        let said = Said::Condition(policy.valid.clone());
        self.set_policy(key, Some(PolicyEntry { parts, diagnostics, mentions, said }));
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
        self.host_changed(name, old.as_deref(), node.as_deref());
        self.mark_depending(Dependency::Nodes);
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

    /// All addresses of a node, its own in the overlay among them.
    pub fn addresses_of_node(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let own = self.nodes.get(name).into_iter().flat_map(|node| node.internal_ips.iter().chain(&node.external_ips));
        own.copied().chain(self.ledgers.get(name).into_iter().flat_map(|ledger| ledger.addresses_of(OVERLAY)))
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
