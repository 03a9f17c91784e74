//! Policies of all kinds, and what the compiler asks about identities.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::identities::LabelSets;
use super::selectors::{Role, Selectors};
use super::services::pods_behind;
use super::{CLUSTER_IDENTITIES, Dirty, Index, PodEntry, Unnumbered};
use crate::compile::policy::{
    CidrGroups, Dependency, Mention, Mentioned, NamedPort, ParsedPolicy, PeerView, ServiceBy, ServiceRef, Source,
    Subject, SubjectPolicy, Subjects,
};
use crate::engine::Diagnostic;
use crate::object::{CidrGroup, CiliumIdentity, Kind, Name, Node, ObjectKey, Selector, Service, Validity};

/// A policy object, read once.
#[derive(Debug)]
pub struct PolicyEntry {
    /// In terms of identities, one for each subject that it has.
    pub parts: Vec<ParsedPolicy>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
    /// The objects that it names.
    pub mentions: Vec<Mention>,
    /// What its condition `Valid` says, if its kind has one.
    pub said: Said,
}

impl PolicyEntry {
    /// Of a kind with one subject, no condition, and no names of other objects.
    pub(super) fn of_one_part(part: ParsedPolicy, diagnostics: Vec<Diagnostic>) -> Self {
        Self { parts: vec![part], diagnostics, mentions: Vec::new(), said: Said::Never }
    }
}

/// The condition of a policy as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Objects of this kind have none.
    Never,
    /// None yet, or this.
    Condition(Option<Validity>),
}

/// One of a policy object's parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyPart {
    /// The object.
    pub policy: ObjectKey,
    /// Its place among [`PolicyEntry::parts`].
    pub index: u16,
}

/// All policies.
#[derive(Debug, Default)]
pub struct Policies {
    policies: BTreeMap<ObjectKey, PolicyEntry>,
    depending: BTreeMap<Dependency, BTreeSet<PolicyPart>>,
    /// Those that are about nodes.
    pub(super) of_nodes: BTreeSet<PolicyPart>,
    /// Selectors of the pods behind the Services that parts have as peers.
    behind: BTreeMap<PolicyPart, BTreeSet<Arc<Selector>>>,
    cidr_groups: BTreeMap<Arc<str>, Arc<CidrGroup>>,
}

impl Policies {
    /// A policy by name.
    pub fn get(&self, policy: &ObjectKey) -> Option<&PolicyEntry> {
        self.policies.get(policy)
    }

    /// One of its parts.
    pub fn part(&self, part: &PolicyPart) -> Option<&ParsedPolicy> {
        self.policies.get(&part.policy)?.parts.get(usize::from(part.index))
    }

    /// Whether some policy may be about pods of a namespace, or (empty) of any.
    fn any_for(&self, namespace: &Arc<str>) -> bool {
        let any = |kind, namespace: &Arc<str>| {
            let first = ObjectKey { kind, name: Name { namespace: Arc::clone(namespace), name: Arc::from("") } };
            let all = self.policies.range(first..);
            let mut own = all.take_while(|(policy, _)| policy.kind == kind && policy.name.namespace == *namespace);
            own.any(|(_, entry)| !entry.parts.iter().all(ParsedPolicy::is_about_nodes))
        };
        any(Kind::NetworkPolicy, namespace)
            || any(Kind::ClusterNetworkPolicy, &Arc::from(""))
            || any(Kind::CiliumNetworkPolicy, namespace)
            || any(Kind::CiliumClusterwideNetworkPolicy, &Arc::from(""))
    }
}

/// The parts of a policy with their keys.
fn parts<'a>(policy: &ObjectKey, parts: &'a [ParsedPolicy]) -> impl Iterator<Item = (PolicyPart, &'a ParsedPolicy)> {
    (0..).zip(parts).map(move |(index, part)| (PolicyPart { policy: policy.clone(), index }, part))
}

impl Index {
    /// A policy has this content, or is gone.
    pub(super) fn set_policy(&mut self, key: &ObjectKey, new: Option<PolicyEntry>) {
        self.dirty.policies.insert(key.clone());
        let old = self.policies.policies.get(key);
        if old.map(|old| &old.parts) == new.as_ref().map(|new| &new.parts) {
            if let Some(new) = new {
                self.policies.policies.insert(key.clone(), new);
            }
            return;
        }
        let namespace = &key.name.namespace;
        let had_policy = self.policies.any_for(namespace);
        if let Some(old) = self.policies.policies.remove(key) {
            for (part, parsed) in parts(key, &old.parts) {
                Self::mark_subjects(&self.selectors, &self.sets, &self.nodes, &mut self.dirty, parsed);
                match &parsed.subjects {
                    Subjects::Pods(selector) => self.selectors.remove(selector, &part, Role::Subject),
                    Subjects::Nodes(_) => drop(self.policies.of_nodes.remove(&part)),
                }
                let behind = self.policies.behind.remove(&part).unwrap_or_default();
                for selector in parsed.peer_selectors().chain(&behind) {
                    self.selectors.remove(selector, &part, Role::Peer);
                }
                for depending in self.policies.depending.values_mut() {
                    depending.remove(&part);
                }
            }
        }
        if let Some(new) = new {
            for (part, parsed) in parts(key, &new.parts) {
                match &parsed.subjects {
                    Subjects::Pods(selector) => self.selectors.add(selector, &part, Role::Subject, &self.sets),
                    Subjects::Nodes(_) => drop(self.policies.of_nodes.insert(part.clone())),
                }
                for selector in parsed.peer_selectors() {
                    self.selectors.add(selector, &part, Role::Peer, &self.sets);
                }
                Self::mark_subjects(&self.selectors, &self.sets, &self.nodes, &mut self.dirty, parsed);
                for on in parsed.depends_on() {
                    self.policies.depending.entry(on).or_default().insert(part.clone());
                }
            }
            let services = |(part, parsed): (PolicyPart, &ParsedPolicy)| parsed.services().next().map(|_| part);
            let with_services: Vec<_> = parts(key, &new.parts).filter_map(services).collect();
            self.policies.policies.insert(key.clone(), new);
            with_services.iter().for_each(|part| self.look_behind(part));
        }
        if had_policy != self.policies.any_for(namespace) {
            let row = |pod: &PodEntry| Some((Arc::clone(pod.pod.node.as_ref()?), Arc::clone(&pod.pod.name.namespace)));
            self.dirty.namespaces.extend(self.pods.in_namespace(namespace).filter_map(row));
        }
    }

    /// Something is different on which policies depend: their subjects compile again.
    pub(super) fn mark_depending(&mut self, on: Dependency) {
        for part in self.policies.depending.get(&on).into_iter().flatten() {
            self.dirty.policies.insert(part.policy.clone());
            if let Some(parsed) = self.policies.part(part) {
                Self::mark_subjects(&self.selectors, &self.sets, &self.nodes, &mut self.dirty, parsed);
            }
        }
    }

    /// Whether some policy depends on this.
    pub(super) fn depends_on(&self, on: Dependency) -> bool {
        self.policies.depending.get(&on).is_some_and(|parts| !parts.is_empty())
    }

    /// Services were, or are, like this: policies that have one of them as a peer compile again.
    pub(super) fn service_changed_as_peer(&mut self, states: &[Option<Arc<Service>>]) {
        let means = |services: &ServiceRef| states.iter().flatten().any(|service| services.means(service));
        let parts = self.policies.depending.get(&Dependency::Services).into_iter().flatten();
        let about = |part: &&PolicyPart| self.policies.part(part).is_some_and(|part| part.services().any(means));
        let parts: Vec<PolicyPart> = parts.filter(about).cloned().collect();
        for part in parts {
            self.look_behind(&part);
            self.dirty.policies.insert(part.policy.clone());
            if let Some(parsed) = self.policies.part(&part) {
                Self::mark_subjects(&self.selectors, &self.sets, &self.nodes, &mut self.dirty, parsed);
            }
        }
    }

    /// Notes which pods are behind the Services that a part has as peers.
    fn look_behind(&mut self, part: &PolicyPart) {
        let Some(parsed) = self.policies.part(part) else { return };
        let services = parsed.services().flat_map(|services| self.services.meant(services));
        let now: BTreeSet<Arc<Selector>> = services.filter_map(|service| pods_behind(service)).collect();
        let before = self.policies.behind.get(part).cloned().unwrap_or_default();
        let named: BTreeSet<_> = parsed.peer_selectors().collect();
        for selector in before.difference(&now).filter(|selector| !named.contains(selector)) {
            self.selectors.remove(selector, part, Role::Peer);
        }
        for selector in now.difference(&before) {
            self.selectors.add(selector, part, Role::Peer, &self.sets);
        }
        self.policies.behind.insert(part.clone(), now);
    }

    /// A group has this content, or is gone.
    pub(super) fn set_cidr_group(&mut self, name: &Arc<str>, group: Option<Arc<CidrGroup>>) {
        let old = match &group {
            Some(group) => self.policies.cidr_groups.insert(Arc::clone(name), Arc::clone(group)),
            None => self.policies.cidr_groups.remove(name),
        };
        if old != group {
            self.mark_depending(Dependency::CidrGroups);
        }
    }

    /// The identities or nodes that a policy is about compile again.
    pub(super) fn mark_subjects(
        selectors: &Selectors,
        sets: &LabelSets,
        nodes: &BTreeMap<Arc<str>, Arc<Node>>,
        dirty: &mut Dirty,
        parsed: &ParsedPolicy,
    ) {
        match &parsed.subjects {
            Subjects::Pods(selector) => {
                let selected = selectors.get(selector).into_iter().flat_map(|selected| &selected.sets);
                dirty.identities.extend(selected.filter_map(|set| sets.get(*set)?.identity()));
            }
            Subjects::Nodes(selector) => {
                let selected = nodes.values().filter(|node| selector.matches(&node.labels));
                dirty.hosts.extend(selected.map(|node| Arc::clone(&node.name)));
            }
        }
    }
}

/// What the compile stage reads.
impl Index {
    /// A policy by name.
    #[must_use]
    pub fn policy(&self, policy: &ObjectKey) -> Option<&PolicyEntry> {
        self.policies.get(policy)
    }

    /// What a policy names and nobody has made.
    #[must_use]
    pub fn missing(&self, object: &Mentioned) -> Option<String> {
        match object {
            Mentioned::CidrGroup(name) => {
                (!self.policies.cidr_groups.contains_key(name)).then(|| format!("CiliumCIDRGroup {name}"))
            }
            Mentioned::Service(namespace, name) => {
                let by = ServiceRef { namespace: namespace.clone(), by: ServiceBy::Name(Arc::clone(name)) };
                let named = || namespace.as_ref().map_or(name.to_string(), |namespace| format!("{namespace}/{name}"));
                self.services.meant(&by).is_empty().then(|| format!("Service {}", named()))
            }
        }
    }

    /// Whether a part of a policy selects a pod, or a node.
    #[must_use]
    pub fn selects_any(&self, part: &ParsedPolicy) -> bool {
        match &part.subjects {
            Subjects::Pods(selector) => self.selectors.get(selector).is_some_and(|selected| {
                selected.sets.iter().filter_map(|set| self.sets.get(*set)).any(|set| !set.pods.is_empty())
            }),
            Subjects::Nodes(selector) => self.nodes.values().any(|node| selector.matches(&node.labels)),
        }
    }

    /// Whether some policy may be about pods of a namespace.
    #[must_use]
    pub fn has_policy(&self, namespace: &Arc<str>) -> bool {
        self.policies.any_for(namespace)
    }

    /// An identity with the policies that select it; `None` when no live pod has it.
    #[must_use]
    pub fn subject(&self, identity: u32) -> Option<Subject<'_>> {
        let (_, set) = self.sets.by_identity(identity).filter(|(_, set)| !set.pods.is_empty())?;
        let parts: BTreeSet<&PolicyPart> =
            self.selectors.matching(&set.labels).flat_map(|selected| &selected.subjects).collect();
        let policy = |part| Some(SubjectPolicy { source: Source::Part(part), parsed: self.policies.part(part)? });
        Some(Subject { identity, policies: parts.into_iter().filter_map(policy).collect() })
    }

    /// Live pods of an identity, sorted.
    pub fn pods_of(&self, identity: u32) -> impl Iterator<Item = &Name> {
        self.sets.by_identity(identity).into_iter().flat_map(|(_, set)| &set.pods)
    }

    /// All identity objects, sorted by number.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<CiliumIdentity>> {
        self.sets.objects().filter(|object| CLUSTER_IDENTITIES.contains(&object.id))
    }

    /// An identity object.
    #[must_use]
    pub fn identity(&self, identity: u32) -> Option<&Arc<CiliumIdentity>> {
        self.sets.object(identity).filter(|object| CLUSTER_IDENTITIES.contains(&object.id))
    }

    /// Whether some live pod has this identity.
    #[must_use]
    pub fn has_pods(&self, identity: u32) -> bool {
        self.sets.in_use(identity)
    }

    /// Whether some node reports an endpoint with this identity. Looks at all attachments.
    #[must_use]
    pub fn is_enforced(&self, identity: u32) -> bool {
        self.attachments.enforce(identity)
    }

    /// Label sets without a number, with a pod that has it; sorted.
    pub fn unnumbered(&self) -> impl Iterator<Item = Unnumbered<'_>> {
        self.sets.unnumbered()
    }
}

impl PeerView for Index {
    fn selected(&self, selector: &Selector) -> Vec<u32> {
        let sets = self.selectors.get(selector).into_iter().flat_map(|selected| &selected.sets);
        sets.filter_map(|set| self.sets.get(*set)?.identity()).collect()
    }

    fn with_port(&self, port: &NamedPort) -> Vec<u32> {
        let has = |set: &super::LabelSet| {
            set.ports.keys().any(|have| have.name == port.name && have.protocol == port.protocol)
        };
        self.sets.iter().filter(|(_, set)| has(set)).filter_map(|(_, set)| set.identity()).collect()
    }

    fn ports(&self, identity: u32, port: &NamedPort) -> Vec<u16> {
        let set = self.sets.by_identity(identity);
        let ports = set.into_iter().flat_map(|(_, set)| set.ports.keys());
        ports.filter(|have| have.name == port.name && have.protocol == port.protocol).map(|have| have.port).collect()
    }

    fn nodes(&self, selector: &Selector) -> Vec<IpNet> {
        let nodes = self.nodes.values().filter(|node| selector.matches(&node.labels));
        let addresses: BTreeSet<IpAddr> = nodes.flat_map(|node| self.addresses_of_node(&node.name)).collect();
        addresses.into_iter().map(IpNet::from).collect()
    }

    fn cidrs(&self, groups: &CidrGroups) -> Vec<IpNet> {
        let means = |group: &&Arc<CidrGroup>| match groups {
            CidrGroups::Named(name) => group.name == *name,
            CidrGroups::Labelled(selector) => selector.matches(&group.labels),
        };
        let groups = self.policies.cidr_groups.values().filter(means);
        let cidrs: BTreeSet<IpNet> = groups.flat_map(|group| &group.cidrs).copied().collect();
        cidrs.into_iter().collect()
    }

    fn behind(&self, services: &ServiceRef) -> Vec<u32> {
        let selectors = self.services.meant(services).into_iter().filter_map(|service| pods_behind(service));
        selectors.flat_map(|selector| self.selected(&selector)).collect()
    }

    fn endpoints(&self, services: &ServiceRef) -> Vec<IpNet> {
        self.services.endpoints(services).into_iter().map(IpNet::from).collect()
    }

    fn api_server(&self) -> Vec<IpNet> {
        self.api_server_addresses().into_iter().map(IpNet::from).collect()
    }
}
