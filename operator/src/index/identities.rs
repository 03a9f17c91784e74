//! Label sets, the pods that have them, and their numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::by_label::ByLabel;
use super::{CLUSTER_IDENTITIES, Index, PolicyPart};
use crate::compile::policy::Dependency;
use crate::object::{CiliumIdentity, ContainerPort, Labels, Name, Selector};

/// A label set that some pod has, or that has a number.
#[derive(Debug)]
pub struct LabelSet {
    /// Security labels.
    pub labels: Arc<Labels>,
    /// Live pods with these labels.
    pub pods: BTreeSet<Name>,
    /// Live pods that will have these labels as soon as they can change over: see `Index::change_over`.
    pub next: BTreeSet<Name>,
    /// Numbers given to it. Rival allocators may have given several; the lowest counts.
    pub ids: BTreeSet<u32>,
    /// The number that its pods go on with although its object is gone: somebody has deleted it, and it has to be made anew.
    pub lost: Option<u32>,
    /// Named ports of its pods, with the number of pods that have each.
    pub ports: BTreeMap<ContainerPort, u32>,
}

impl LabelSet {
    /// The number that counts.
    #[must_use]
    pub fn identity(&self) -> Option<u32> {
        self.ids.first().copied().or(self.lost)
    }

    /// Whether no pod has these labels or will have them.
    fn is_unused(&self) -> bool {
        self.pods.is_empty() && self.next.is_empty()
    }
}

/// A label set of pods for which there is no identity object.
#[derive(Clone, Copy, Debug)]
pub struct Unnumbered<'a> {
    /// Security labels.
    pub labels: &'a Arc<Labels>,
    /// One of the pods.
    pub pod: &'a Name,
    /// The number that it has had and still has for its pods.
    pub lost: Option<u32>,
}

/// Handle of a label set; used again after the set is gone.
pub type SetId = u32;

/// All label sets.
#[derive(Debug, Default)]
pub struct LabelSets {
    sets: BTreeMap<SetId, LabelSet>,
    by_labels: HashMap<Arc<Labels>, SetId>,
    with_label: ByLabel,
    by_identity: BTreeMap<u32, (SetId, Arc<CiliumIdentity>)>,
    unnumbered: BTreeSet<Arc<Labels>>,
    next: SetId,
}

impl LabelSets {
    /// The set of this handle.
    #[must_use]
    pub fn get(&self, id: SetId) -> Option<&LabelSet> {
        self.sets.get(&id)
    }

    /// All sets.
    pub fn iter(&self) -> impl Iterator<Item = (SetId, &LabelSet)> {
        self.sets.iter().map(|(id, set)| (*id, set))
    }

    /// The sets that `selector` matches.
    #[must_use]
    pub fn matching(&self, selector: &Selector) -> BTreeSet<SetId> {
        let matches = |id: &SetId| self.sets.get(id).is_some_and(|set| selector.matches(&set.labels));
        match self.with_label.candidates(selector) {
            Some(candidates) => candidates.filter(matches).collect(),
            None => self.sets.keys().copied().filter(matches).collect(),
        }
    }

    /// The set that `identity` stands for, if it is the number that counts.
    #[must_use]
    pub fn by_identity(&self, identity: u32) -> Option<(SetId, &LabelSet)> {
        let (id, _) = self.by_identity.get(&identity)?;
        self.sets.get(id).filter(|set| set.identity() == Some(identity)).map(|set| (*id, set))
    }

    /// All identity objects.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<CiliumIdentity>> {
        self.by_identity.values().map(|(_, object)| object)
    }

    /// An identity object by number.
    #[must_use]
    pub fn object(&self, identity: u32) -> Option<&Arc<CiliumIdentity>> {
        self.by_identity.get(&identity).map(|(_, object)| object)
    }

    /// The set that has this number, whether or not it is the one that counts.
    #[must_use]
    pub fn set_of(&self, identity: u32) -> Option<SetId> {
        self.by_identity.get(&identity).map(|(id, _)| *id)
    }

    /// Whether pods use this number.
    #[must_use]
    pub fn in_use(&self, identity: u32) -> bool {
        self.by_identity(identity).is_some_and(|(_, set)| !set.pods.is_empty())
    }

    /// Label sets of pods for which there is no identity object.
    pub fn unnumbered(&self) -> impl Iterator<Item = Unnumbered<'_>> {
        self.unnumbered.iter().filter_map(|labels| {
            let set = self.sets.get(self.by_labels.get(labels)?)?;
            Some(Unnumbered { labels, pod: set.pods.first().or(set.next.first())?, lost: set.lost })
        })
    }

    /// The set with these labels, made if there is none; and whether it was made.
    pub fn intern(&mut self, labels: &Arc<Labels>) -> (SetId, bool) {
        if let Some(id) = self.by_labels.get(labels) {
            return (*id, false);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let set = LabelSet {
            labels: Arc::clone(labels),
            pods: BTreeSet::new(),
            next: BTreeSet::new(),
            ids: BTreeSet::new(),
            lost: None,
            ports: BTreeMap::new(),
        };
        self.sets.insert(id, set);
        self.with_label.add(id, labels);
        self.by_labels.insert(Arc::clone(labels), id);
        (id, true)
    }

    /// The number that a set has lost and for which no pod is left.
    #[must_use]
    pub fn forsaken(&self, id: SetId) -> Option<u32> {
        self.sets.get(&id).filter(|set| set.is_unused())?.lost
    }

    /// Forgets a set that has neither pods nor numbers; gives it back if it is forgotten.
    pub fn forget_if_unused(&mut self, id: SetId) -> Option<LabelSet> {
        let set = self.sets.get(&id)?;
        if !set.is_unused() || set.identity().is_some() {
            return None;
        }
        self.with_label.remove(id, &set.labels);
        self.by_labels.remove(&set.labels);
        self.sets.remove(&id)
    }

    /// Adds a pod and its ports; tells whether the set's ports differ now.
    pub fn add_pod(&mut self, id: SetId, pod: &Name, ports: &[ContainerPort]) -> bool {
        let Some(set) = self.sets.get_mut(&id) else { return false };
        set.pods.insert(pod.clone());
        let mut changed = false;
        for port in ports {
            let count = set.ports.entry(port.clone()).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        if set.ids.is_empty() {
            self.unnumbered.insert(Arc::clone(&set.labels));
        }
        changed
    }

    /// Takes away what [`LabelSets::add_pod`] added; tells whether the set's ports differ now.
    pub fn remove_pod(&mut self, id: SetId, pod: &Name, ports: &[ContainerPort]) -> bool {
        let Some(set) = self.sets.get_mut(&id) else { return false };
        set.pods.remove(pod);
        let mut changed = false;
        for port in ports {
            if let Some(count) = set.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    set.ports.remove(port);
                    changed = true;
                }
            }
        }
        if set.is_unused() {
            self.unnumbered.remove(&set.labels);
        }
        changed
    }

    /// A pod will have these labels.
    pub fn add_next(&mut self, id: SetId, pod: &Name) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.next.insert(pod.clone());
        if set.ids.is_empty() {
            self.unnumbered.insert(Arc::clone(&set.labels));
        }
    }

    /// Takes away what [`LabelSets::add_next`] added.
    pub fn remove_next(&mut self, id: SetId, pod: &Name) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.next.remove(pod);
        if set.is_unused() {
            self.unnumbered.remove(&set.labels);
        }
    }

    /// Gives `object`'s number to a set, in place of one that it has lost.
    pub fn add_identity(&mut self, id: SetId, object: Arc<CiliumIdentity>) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.ids.insert(object.id);
            if let Some(lost) = set.lost.take() {
                self.by_identity.remove(&lost);
            }
            self.unnumbered.remove(&set.labels);
        }
        self.by_identity.insert(object.id, (id, object));
    }

    /// Replaces an object whose labels are the same, be it one that was lost.
    pub fn refresh_identity(&mut self, object: Arc<CiliumIdentity>) {
        let Some((id, old)) = self.by_identity.get_mut(&object.id) else { return };
        if let Some(set) = self.sets.get_mut(id).filter(|set| set.lost == Some(object.id)) {
            set.lost = None;
            set.ids.insert(object.id);
            self.unnumbered.remove(&set.labels);
        }
        *old = object;
    }

    /// An object is gone. Pods whose number it was keep it, unless they have another one: false then, and where there are none.
    pub fn lose_identity(&mut self, identity: u32) -> bool {
        let set = self.by_identity.get(&identity).and_then(|(id, _)| self.sets.get_mut(id));
        let only = |set: &&mut LabelSet| set.ids.len() == 1 && set.ids.contains(&identity);
        let Some(set) = set.filter(|set| !set.pods.is_empty()).filter(only) else { return false };
        set.ids.clear();
        set.lost = Some(identity);
        self.unnumbered.insert(Arc::clone(&set.labels));
        true
    }

    /// Takes a number away; gives back the set that had it.
    pub fn remove_identity(&mut self, identity: u32) -> Option<SetId> {
        let (id, _) = self.by_identity.remove(&identity)?;
        let set = self.sets.get_mut(&id)?;
        set.ids.remove(&identity);
        set.lost = set.lost.filter(|lost| *lost != identity);
        if set.ids.is_empty() && !set.is_unused() {
            self.unnumbered.insert(Arc::clone(&set.labels));
        }
        Some(id)
    }
}

impl Index {
    pub(super) fn set_identity(&mut self, id: u32, object: Option<Arc<CiliumIdentity>>) {
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
                self.mark_depending(Dependency::PortsOfPeers);
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
    pub(super) fn intern_set(&mut self, labels: &Arc<Labels>) -> SetId {
        let (set, new) = self.sets.intern(labels);
        if new {
            self.selectors.add_set(set, labels);
        }
        set
    }

    pub(super) fn drop_set_if_unused(&mut self, set: SetId) {
        if let Some(lost) = self.sets.forsaken(set) {
            self.change_numbers(None, lost);
        }
        if let Some(gone) = self.sets.forget_if_unused(set) {
            self.selectors.remove_set(set, &gone);
        }
    }

    /// The set came, went, or has other numbers or ports: policies that have it as a peer compile again.
    pub(super) fn set_changed_as_peer(&mut self, id: SetId) {
        let Some(set) = self.sets.get(id) else { return };
        let parts: HashSet<&PolicyPart> =
            self.selectors.matching(&set.labels).flat_map(|selected| &selected.peers).collect();
        for parsed in parts.into_iter().filter_map(|part| self.policies.part(part)) {
            Self::mark_subjects(&self.selectors, &self.sets, &self.nodes, &mut self.dirty, parsed);
        }
    }
}
