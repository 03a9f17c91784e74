//! Selectors of policies, and the label sets that each of them matches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::identities::{LabelSet, LabelSets, SetId};
use super::labels;
use super::policies::PolicyPart;
use crate::object::{Labels, Operator, Selector};

/// One selector, shared by all policies that use it.
#[derive(Debug, Default)]
pub struct Selected {
    /// Label sets that it matches.
    pub sets: BTreeSet<SetId>,
    /// Parts of policies whose subjects it selects.
    pub subjects: BTreeSet<PolicyPart>,
    /// Parts of policies that have it as a peer.
    pub peers: BTreeSet<PolicyPart>,
}

/// How a policy uses a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It isolates what is selected.
    Subject,
    /// It opens what is selected to its subjects.
    Peer,
}

/// All selectors. Those that are confined to a namespace are found by it, so that a pod is not compared with the selectors of
/// all other namespaces.
#[derive(Debug, Default)]
pub struct Selectors {
    selectors: HashMap<Arc<Selector>, Selected>,
    by_namespace: HashMap<Option<Box<str>>, BTreeSet<Arc<Selector>>>,
}

impl Selectors {
    /// What `selector` matches.
    #[must_use]
    pub fn get(&self, selector: &Selector) -> Option<&Selected> {
        self.selectors.get(selector)
    }

    /// Notes that `part` uses `selector`.
    pub fn add(&mut self, selector: &Arc<Selector>, part: &PolicyPart, role: Role, sets: &LabelSets) {
        if !self.selectors.contains_key(selector) {
            let selected = Selected { sets: sets.matching(selector), ..Selected::default() };
            self.by_namespace.entry(confined(selector)).or_default().insert(Arc::clone(selector));
            self.selectors.insert(Arc::clone(selector), selected);
        }
        if let Some(selected) = self.selectors.get_mut(selector) {
            users(selected, role).insert(part.clone());
        }
    }

    /// Notes that `part` no longer uses `selector`.
    pub fn remove(&mut self, selector: &Arc<Selector>, part: &PolicyPart, role: Role) {
        let Some(selected) = self.selectors.get_mut(selector) else { return };
        users(selected, role).remove(part);
        if selected.subjects.is_empty() && selected.peers.is_empty() {
            self.selectors.remove(selector);
            let namespace = confined(selector);
            if let Some(selectors) = self.by_namespace.get_mut(&namespace) {
                selectors.remove(selector);
                if selectors.is_empty() {
                    self.by_namespace.remove(&namespace);
                }
            }
        }
    }

    /// Selectors that match `labels`.
    pub fn matching(&self, labels: &Labels) -> impl Iterator<Item = &Selected> {
        self.candidates(labels).filter(|selector| selector.matches(labels)).filter_map(|s| self.selectors.get(s))
    }

    /// A new label set: every selector that matches it notes so.
    pub fn add_set(&mut self, id: SetId, labels: &Labels) {
        for selector in self.matching_keys(labels) {
            if let Some(selected) = self.selectors.get_mut(&selector) {
                selected.sets.insert(id);
            }
        }
    }

    /// A label set is gone.
    pub fn remove_set(&mut self, id: SetId, set: &LabelSet) {
        for selector in self.matching_keys(&set.labels) {
            if let Some(selected) = self.selectors.get_mut(&selector) {
                selected.sets.remove(&id);
            }
        }
    }

    fn matching_keys(&self, labels: &Labels) -> Vec<Arc<Selector>> {
        self.candidates(labels).filter(|selector| selector.matches(labels)).cloned().collect()
    }

    fn candidates(&self, labels: &Labels) -> impl Iterator<Item = &Arc<Selector>> {
        let namespace = labels.get(&format!("{}{}", labels::SOURCE, labels::NAMESPACE)).map(Box::from);
        let own = namespace.and_then(|namespace| self.by_namespace.get(&Some(namespace)));
        own.into_iter().chain(self.by_namespace.get(&None)).flatten()
    }
}

fn users(selected: &mut Selected, role: Role) -> &mut BTreeSet<PolicyPart> {
    match role {
        Role::Subject => &mut selected.subjects,
        Role::Peer => &mut selected.peers,
    }
}

/// The one namespace to which a selector is confined.
fn confined(selector: &Selector) -> Option<Box<str>> {
    let namespace = |key: &str| key.strip_prefix(labels::SOURCE) == Some(labels::NAMESPACE);
    selector.requirements.iter().find_map(|requirement| match (&requirement.operator, &*requirement.values) {
        (Operator::In, [value]) if namespace(&requirement.key) => Some(value.clone()),
        _ => None,
    })
}
