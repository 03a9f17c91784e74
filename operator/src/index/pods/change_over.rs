//! Which label set a pod belongs to, and how it takes another one.

use std::sync::Arc;

use super::super::identities::{LabelSets, SetId};
use super::super::{Index, labels};
use super::{Pods, remove};
use crate::compile::policy::Dependency;
use crate::object::{Labels, Name, Pod};

fn next_labels(pods: &Pods, sets: &LabelSets, name: &Name) -> Option<Arc<Labels>> {
    Some(Arc::clone(&sets.get(pods.get(name)?.next?)?.labels))
}

impl Index {
    /// Decides again whether a pod is live and which labels it has.
    pub(in crate::index) fn refresh_pod(&mut self, name: &Name) {
        self.relabel_pod(name);
        self.change_over(&name.namespace);
    }

    /// The same for all pods of a namespace, which change over together.
    pub(in crate::index) fn refresh_namespace(&mut self, namespace: &Arc<str>) {
        let pods: Vec<Name> = self.pods.in_namespace(namespace).map(|pod| pod.pod.name.clone()).collect();
        for pod in &pods {
            self.relabel_pod(pod);
        }
        self.change_over(namespace);
    }

    fn relabel_pod(&mut self, name: &Name) {
        self.mark_pod(name);
        let Some(entry) = self.pods.get(name) else { return };
        let wanted = self.is_live(&entry.pod).then(|| self.namespaces.get(&name.namespace)).flatten();
        let wanted = wanted.map(|namespace| labels::security_labels(&entry.pod, namespace, &self.config));
        let labels_of = |set: Option<SetId>| set.and_then(|id| self.sets.get(id)).map(|set| &set.labels);
        if labels_of(entry.set) == wanted.as_ref() {
            self.forsake_next(name);
            return;
        }
        // One that has started is never without an identity: it keeps the one it has until the next one has a number.
        let changes = self.is_started(entry) && self.identity_of(entry).is_some();
        if changes && entry.next.is_some() && labels_of(entry.next) == wanted.as_ref() {
            return;
        }
        self.forsake_next(name);
        match wanted {
            Some(labels) if changes => self.await_set(name, &labels),
            Some(labels) => {
                self.leave_set(name);
                self.join_set(name, &labels);
            }
            None => self.leave_set(name),
        }
        self.mark_pod(name);
    }

    fn await_set(&mut self, name: &Name, labels: &Arc<Labels>) {
        let set = self.intern_set(labels);
        let Some(entry) = self.pods.pods.get_mut(name) else { return };
        entry.next = Some(set);
        self.sets.add_next(set, name);
        self.pods.changing.entry(Arc::clone(&name.namespace)).or_default().insert(name.clone());
    }

    pub(super) fn forsake_next(&mut self, name: &Name) {
        let Some(set) = self.pods.pods.get_mut(name).and_then(|entry| entry.next.take()) else { return };
        remove(&mut self.pods.changing, &name.namespace, name);
        self.sets.remove_next(set, name);
        self.drop_set_if_unused(set);
    }

    /// Pods of a namespace take the label sets that they wait for, all of them at once when each has a number: rows change in
    /// one commit, in which every pod has one identity.
    pub(in crate::index) fn change_over(&mut self, namespace: &Arc<str>) {
        let Some(changing) = self.pods.changing.get(namespace) else { return };
        let next = |name: &Name| self.sets.get(self.pods.get(name)?.next?);
        if !changing.iter().all(|name| next(name).is_some_and(|set| set.identity().is_some())) {
            return;
        }
        for name in changing.clone() {
            let Some(labels) = next_labels(&self.pods, &self.sets, &name) else { continue };
            self.leave_set(&name);
            self.join_set(&name, &labels);
            self.forsake_next(&name);
            self.mark_pod(&name);
        }
    }

    /// Whether a pod has or will have an endpoint: not on the host network, and not finished and torn down. One whose endpoint
    /// key belongs to another pod has none.
    fn is_live(&self, pod: &Pod) -> bool {
        let torn_down = || {
            pod.node.as_ref().is_none_or(|node| {
                !self.nodes.contains_key(node) || self.attachments.is_detached(node, pod.endpoint_key())
            })
        };
        let over = pod.finished && torn_down();
        !pod.host_network
            && !over
            && self.pods.holder(pod.endpoint_key()).is_some_and(|holder| holder.pod.name == pod.name)
    }

    fn join_set(&mut self, name: &Name, labels: &Arc<Labels>) {
        let set = self.intern_set(labels);
        let Some(entry) = self.pods.pods.get_mut(name) else { return };
        entry.set = Some(set);
        let pod = Arc::clone(&entry.pod);
        let ports_changed = self.sets.add_pod(set, name, &pod.ports);
        self.membership_changed(set, &pod, 1, ports_changed);
    }

    pub(super) fn leave_set(&mut self, name: &Name) {
        let Some(entry) = self.pods.pods.get_mut(name) else { return };
        let Some(set) = entry.set.take() else { return };
        let pod = Arc::clone(&entry.pod);
        let ports_changed = self.sets.remove_pod(set, name, &pod.ports);
        self.membership_changed(set, &pod, 0, ports_changed);
        self.drop_set_if_unused(set);
    }

    /// A pod joined or left a set; with `turning` pods in it, the set has just come into or gone out of use.
    fn membership_changed(&mut self, id: SetId, pod: &Pod, turning: usize, ports_changed: bool) {
        self.dirty.scopes.extend(pod.node.clone());
        let Some(set) = self.sets.get(id) else { return };
        if set.pods.len() == turning {
            // A policy may select its first pod now, or none any more.
            let subjects = self.selectors.matching(&set.labels).flat_map(|selected| &selected.subjects);
            self.dirty.policies.extend(subjects.map(|part| part.policy.clone()));
        }
        if set.pods.len() == turning || ports_changed {
            self.dirty.identities.extend(set.identity());
            self.dirty.usage.extend(set.identity());
        }
        if ports_changed {
            self.mark_depending(Dependency::PortsOfPeers);
        }
    }
}
