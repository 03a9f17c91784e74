//! Policies of all kinds, and what the compiler asks about identities.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::identities::LabelSets;
use super::selectors::{Role, Selectors};
use super::{CLUSTER_IDENTITIES, Dirty, Index, PodEntry, Unnumbered};
use crate::compile::cluster::OVERLAY;
use crate::compile::policy::{CidrGroups, Dependency, NamedPort, ParsedPolicy, PeerView, Subject, SubjectPolicy};
use crate::engine::Diagnostic;
use crate::object::{CidrGroup, CiliumIdentity, Kind, Name, ObjectKey, Selector, Validity};

/// A policy object, read once.
#[derive(Debug)]
pub struct PolicyEntry {
    /// In terms of identities, one for each subject that it has.
    pub parts: Vec<ParsedPolicy>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
    /// What its condition `Valid` says, if its kind has one.
    pub said: Said,
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
            let next = self.policies.range(first..).next();
            next.is_some_and(|(policy, _)| policy.kind == kind && policy.name.namespace == *namespace)
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
                self.mark_selected(&parsed.subject);
                self.selectors.remove(&parsed.subject, &part, Role::Subject);
                for selector in parsed.peer_selectors() {
                    self.selectors.remove(selector, &part, Role::Peer);
                }
                for depending in self.policies.depending.values_mut() {
                    depending.remove(&part);
                }
            }
        }
        if let Some(new) = new {
            for (part, parsed) in parts(key, &new.parts) {
                self.selectors.add(&parsed.subject, &part, Role::Subject, &self.sets);
                for selector in parsed.peer_selectors() {
                    self.selectors.add(selector, &part, Role::Peer, &self.sets);
                }
                self.mark_selected(&parsed.subject);
                for on in parsed.depends_on() {
                    self.policies.depending.entry(on).or_default().insert(part.clone());
                }
            }
            self.policies.policies.insert(key.clone(), new);
        }
        if had_policy != self.policies.any_for(namespace) {
            let row = |pod: &PodEntry| Some((Arc::clone(pod.pod.node.as_ref()?), Arc::clone(&pod.pod.name.namespace)));
            self.dirty.namespaces.extend(self.pods.in_namespace(namespace).filter_map(row));
        }
    }

    /// The identities that a selector matches compile again.
    fn mark_selected(&mut self, subject: &Selector) {
        Self::mark_matching(&self.selectors, &self.sets, &mut self.dirty, subject);
    }

    /// Something is different on which policies depend: their subjects compile again.
    pub(super) fn mark_depending(&mut self, on: Dependency) {
        for part in self.policies.depending.get(&on).into_iter().flatten() {
            Self::mark_subjects(&self.policies, &self.selectors, &self.sets, &mut self.dirty, part);
        }
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

    /// The identities that a policy is about compile again.
    pub(super) fn mark_subjects(
        policies: &Policies,
        selectors: &Selectors,
        sets: &LabelSets,
        dirty: &mut Dirty,
        part: &PolicyPart,
    ) {
        if let Some(parsed) = policies.part(part) {
            Self::mark_matching(selectors, sets, dirty, &parsed.subject);
        }
    }

    fn mark_matching(selectors: &Selectors, sets: &LabelSets, dirty: &mut Dirty, subject: &Selector) {
        let selected = selectors.get(subject).into_iter().flat_map(|selected| &selected.sets);
        dirty.identities.extend(selected.filter_map(|set| sets.get(*set)?.identity()));
    }
}

/// What the compile stage reads.
impl Index {
    /// A policy by name.
    #[must_use]
    pub fn policy(&self, policy: &ObjectKey) -> Option<&PolicyEntry> {
        self.policies.get(policy)
    }

    /// Whether a part of a policy selects a pod.
    #[must_use]
    pub fn selects_any(&self, part: &ParsedPolicy) -> bool {
        let selected = self.selectors.get(&part.subject);
        selected.is_some_and(|selected| {
            selected.sets.iter().filter_map(|set| self.sets.get(*set)).any(|set| !set.pods.is_empty())
        })
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
        let policy = |part| Some(SubjectPolicy { part, parsed: self.policies.part(part)? });
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
        let addresses = nodes.flat_map(|node| {
            let overlay = self.ledgers.get(&node.name).into_iter().flat_map(|ledger| ledger.addresses_of(OVERLAY));
            node.internal_ips.iter().chain(&node.external_ips).copied().chain(overlay)
        });
        let addresses: BTreeSet<IpAddr> = addresses.collect();
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

    fn api_server(&self) -> Vec<IpNet> {
        self.api_server_addresses().into_iter().map(IpNet::from).collect()
    }
}
