//! NetworkPolicies, and what the compiler asks about identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::identities::LabelSets;
use super::selectors::{Role, Selectors};
use super::{CLUSTER_IDENTITIES, Dirty, Index, Unnumbered};
use crate::compile::policy::{NamedPort, ParsedPolicy, PeerView, Subject, SubjectPolicy, parse};
use crate::engine::Diagnostic;
use crate::object::{CiliumIdentity, Name, NetworkPolicy, Selector};

/// A policy, read once.
#[derive(Debug)]
pub struct PolicyEntry {
    /// In terms of identities.
    pub parsed: ParsedPolicy,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

/// All policies.
#[derive(Debug, Default)]
pub struct Policies {
    policies: BTreeMap<Name, PolicyEntry>,
    naming_ports_of_peers: BTreeSet<Name>,
}

impl Policies {
    /// A policy by name.
    pub fn get(&self, name: &Name) -> Option<&PolicyEntry> {
        self.policies.get(name)
    }

    /// Policies of which a port by name depends on the peers' pods.
    pub fn naming_ports_of_peers(&self) -> impl Iterator<Item = &Name> {
        self.naming_ports_of_peers.iter()
    }

    fn any_in(&self, namespace: &Arc<str>) -> bool {
        let first = Name { namespace: Arc::clone(namespace), name: Arc::from("") };
        self.policies.range(first..).next().is_some_and(|(name, _)| name.namespace == *namespace)
    }
}

impl Index {
    pub(super) fn set_policy(&mut self, name: &Name, policy: Option<&NetworkPolicy>) {
        let new = policy.map(parse).map(|(parsed, diagnostics)| PolicyEntry { parsed, diagnostics });
        self.dirty.policies.insert(name.clone());
        let old = self.policies.policies.get(name);
        if old.map(|old| &old.parsed) == new.as_ref().map(|new| &new.parsed) {
            if let Some(new) = new {
                self.policies.policies.insert(name.clone(), new);
            }
            return;
        }
        let namespace_had_policy = self.policies.any_in(&name.namespace);
        self.mark_subjects_of(name);
        if let Some(old) = self.policies.policies.remove(name) {
            self.selectors.remove(&old.parsed.subject, name, Role::Subject);
            for selector in old.parsed.peer_selectors() {
                self.selectors.remove(selector, name, Role::Peer);
            }
            self.policies.naming_ports_of_peers.remove(name);
        }
        if let Some(new) = new {
            self.selectors.add(&new.parsed.subject, name, Role::Subject, &self.sets);
            for selector in new.parsed.peer_selectors() {
                self.selectors.add(selector, name, Role::Peer, &self.sets);
            }
            if new.parsed.names_ports_of_peers() {
                self.policies.naming_ports_of_peers.insert(name.clone());
            }
            self.policies.policies.insert(name.clone(), new);
        }
        self.mark_subjects_of(name);
        if namespace_had_policy != self.policies.any_in(&name.namespace) {
            let bound = self.pods.in_namespace(&name.namespace).filter_map(|pod| pod.pod.node.as_ref());
            self.dirty.namespaces.extend(bound.map(|node| (Arc::clone(node), Arc::clone(&name.namespace))));
        }
    }

    fn mark_subjects_of(&mut self, policy: &Name) {
        Self::mark_subjects(&self.policies, &self.selectors, &self.sets, &mut self.dirty, policy);
    }

    /// Some identity has other named ports.
    pub(super) fn mark_policies_naming_ports(&mut self) {
        for policy in self.policies.naming_ports_of_peers() {
            Self::mark_subjects(&self.policies, &self.selectors, &self.sets, &mut self.dirty, policy);
        }
    }

    /// The identities that `policy` selects compile again.
    pub(super) fn mark_subjects(
        policies: &Policies,
        selectors: &Selectors,
        sets: &LabelSets,
        dirty: &mut Dirty,
        policy: &Name,
    ) {
        let subject = policies.get(policy).and_then(|policy| selectors.get(&policy.parsed.subject));
        let selected = subject.into_iter().flat_map(|selected| &selected.sets);
        dirty.identities.extend(selected.filter_map(|set| sets.get(*set)?.identity()));
    }
}

/// What the compile stage reads.
impl Index {
    /// A policy by name.
    #[must_use]
    pub fn policy(&self, name: &Name) -> Option<&PolicyEntry> {
        self.policies.get(name)
    }

    /// Whether a policy selects a pod.
    #[must_use]
    pub fn selects_any(&self, policy: &PolicyEntry) -> bool {
        let selected = self.selectors.get(&policy.parsed.subject);
        selected.is_some_and(|selected| {
            selected.sets.iter().filter_map(|set| self.sets.get(*set)).any(|set| !set.pods.is_empty())
        })
    }

    /// Whether a namespace has any policy.
    #[must_use]
    pub fn has_policy(&self, namespace: &Arc<str>) -> bool {
        self.policies.any_in(namespace)
    }

    /// An identity with the policies that select it; `None` when no live pod has it.
    #[must_use]
    pub fn subject(&self, identity: u32) -> Option<Subject<'_>> {
        let (_, set) = self.sets.by_identity(identity).filter(|(_, set)| !set.pods.is_empty())?;
        let names: BTreeSet<&Name> =
            self.selectors.matching(&set.labels).flat_map(|selected| &selected.subjects).collect();
        let policy = |name| Some(SubjectPolicy { name, parsed: &self.policies.get(name)?.parsed });
        Some(Subject { identity, policies: names.into_iter().filter_map(policy).collect() })
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
}
