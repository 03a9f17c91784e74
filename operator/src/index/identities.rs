//! Label sets, the pods that have them, and their numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::object::{CiliumIdentity, ContainerPort, Labels, Name};

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
    /// Named ports of its pods, with the number of pods that have each.
    pub ports: BTreeMap<ContainerPort, u32>,
}

impl LabelSet {
    /// The number that counts.
    #[must_use]
    pub fn identity(&self) -> Option<u32> {
        self.ids.first().copied()
    }

    /// Whether no pod has these labels or will have them.
    fn is_unused(&self) -> bool {
        self.pods.is_empty() && self.next.is_empty()
    }
}

/// Handle of a label set; used again after the set is gone.
pub type SetId = u32;

/// All label sets.
#[derive(Debug, Default)]
pub struct LabelSets {
    sets: BTreeMap<SetId, LabelSet>,
    by_labels: HashMap<Arc<Labels>, SetId>,
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

    /// Label sets of pods that have no number, with one of the pods each.
    pub fn unnumbered(&self) -> impl Iterator<Item = (&Arc<Labels>, &Name)> {
        self.unnumbered.iter().filter_map(|labels| {
            let set = self.sets.get(self.by_labels.get(labels)?)?;
            Some((labels, set.pods.first().or(set.next.first())?))
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
            ports: BTreeMap::new(),
        };
        self.sets.insert(id, set);
        self.by_labels.insert(Arc::clone(labels), id);
        (id, true)
    }

    /// Forgets a set that has neither pods nor numbers; gives it back if it is forgotten.
    pub fn forget_if_unused(&mut self, id: SetId) -> Option<LabelSet> {
        let set = self.sets.get(&id)?;
        if !set.is_unused() || !set.ids.is_empty() {
            return None;
        }
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

    /// Gives `object`'s number to a set.
    pub fn add_identity(&mut self, id: SetId, object: Arc<CiliumIdentity>) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.ids.insert(object.id);
            self.unnumbered.remove(&set.labels);
        }
        self.by_identity.insert(object.id, (id, object));
    }

    /// Replaces an object whose labels are the same.
    pub fn refresh_identity(&mut self, object: Arc<CiliumIdentity>) {
        if let Some((_, old)) = self.by_identity.get_mut(&object.id) {
            *old = object;
        }
    }

    /// Takes a number away; gives back the set that had it.
    pub fn remove_identity(&mut self, identity: u32) -> Option<SetId> {
        let (id, _) = self.by_identity.remove(&identity)?;
        let set = self.sets.get_mut(&id)?;
        set.ids.remove(&identity);
        if set.ids.is_empty() && !set.is_unused() {
            self.unnumbered.insert(Arc::clone(&set.labels));
        }
        Some(id)
    }
}
