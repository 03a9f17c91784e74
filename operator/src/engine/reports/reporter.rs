//! Makes reports, each only when it differs from the last one.

use std::collections::HashMap;
use std::sync::Arc;

use axoneme_proto::nodesync::{RowFailure, Table};

use super::{Diagnostic, EndpointReport, EndpointState, Reason, Report};
use crate::compile::policy::Shared;
use crate::index::{Index, PodEntry, PolicyEntry};
use crate::object::{Kind, Name, ObjectKey};

/// Remembers what was reported.
#[derive(Debug, Default)]
pub struct Reporter {
    endpoints: HashMap<Name, Arc<EndpointReport>>,
    diagnostics: HashMap<ObjectKey, Arc<[Diagnostic]>>,
}

impl Reporter {
    /// The report of a pod's endpoint, if it differs.
    pub fn endpoint(&mut self, index: &Index, policies: &HashMap<u32, Arc<Shared>>, name: &Name) -> Option<Report> {
        let new = index.pod(name).and_then(|pod| endpoint(index, policies, pod));
        if self.endpoints.get(name).map(|old| &**old) == new.as_ref() {
            return None;
        }
        let new = new.map(Arc::new);
        match &new {
            Some(new) => drop(self.endpoints.insert(name.clone(), Arc::clone(new))),
            None => drop(self.endpoints.remove(name)),
        }
        Some(Report::Endpoint(name.clone(), new))
    }

    /// The diagnostics of a policy, if they differ.
    pub fn policy(&mut self, index: &Index, name: &Name) -> Option<Report> {
        let new = index.policy(name).map(|policy| diagnostics(index, policy)).unwrap_or_default();
        self.diagnose(ObjectKey::namespaced(Kind::NetworkPolicy, name), new.into())
    }

    /// The diagnostics of a pool, if they differ.
    pub fn pool(&mut self, index: &Index, name: &Arc<str>) -> Option<Report> {
        self.diagnose(ObjectKey::cluster(Kind::CiliumPodIPPool, name), index.pool_diagnostics(name).into())
    }

    fn diagnose(&mut self, object: ObjectKey, new: Arc<[Diagnostic]>) -> Option<Report> {
        let old = self.diagnostics.get(&object).map(|old| &**old).unwrap_or_default();
        if *old == *new {
            return None;
        }
        if new.is_empty() {
            self.diagnostics.remove(&object);
        } else {
            self.diagnostics.insert(object.clone(), Arc::clone(&new));
        }
        Some(Report::Diagnostics(object, new))
    }
}

/// What is wrong with a policy in itself, and with the pods that there are.
fn diagnostics(index: &Index, policy: &PolicyEntry) -> Vec<Diagnostic> {
    let mut diagnostics = policy.diagnostics.clone();
    if !index.selects_any(policy) {
        diagnostics.push(Diagnostic {
            reason: Reason::NoMatchingPods,
            field: "spec.podSelector".into(),
            message: "no pod has these labels: the policy changes nothing until there is one".into(),
        });
    }
    diagnostics
}

/// A bound pod with a network of its own has a `CiliumEndpoint`.
fn endpoint(index: &Index, policies: &HashMap<u32, Arc<Shared>>, entry: &PodEntry) -> Option<EndpointReport> {
    let set = index.set_of(entry)?;
    let pod = &entry.pod;
    let node = pod.node.as_ref()?;
    let identity = set.identity();
    let policy = identity.and_then(|identity| policies.get(&identity));
    let attachment = index.attachment_of(entry);
    let state = match (identity, attachment) {
        (None, _) => EndpointState::WaitingForIdentity,
        (Some(_), None) => EndpointState::Creating,
        (Some(_), Some(_)) if pod.deleting => EndpointState::Disconnecting,
        (Some(_), Some(_)) => EndpointState::Ready,
    };
    Some(EndpointReport {
        pod_uid: Arc::clone(&pod.uid),
        identity,
        labels: Arc::clone(&set.labels),
        addresses: index.addresses_of(entry).into(),
        node_ip: index.node(node).and_then(|node| node.internal_ips.first().copied()),
        named_ports: pod.ports.clone(),
        service_account: Arc::clone(&pod.service_account),
        endpoint_id: attachment.map_or(0, |attachment| attachment.endpoint_id),
        state,
        ingress_enforcing: policy.is_some_and(|policy| policy.ingress),
        egress_enforcing: policy.is_some_and(|policy| policy.egress),
    })
}

/// The objects on which a row's failure should be shown.
pub fn causes(index: &Index, failure: &RowFailure) -> Vec<ObjectKey> {
    let Some(key) = &failure.key else { return Vec::new() };
    let named = |kind| match key.key.split_once('/') {
        Some((namespace, name)) => vec![ObjectKey::namespaced(kind, &Name::new(namespace, name))],
        None => Vec::new(),
    };
    match key.table() {
        Table::Service => named(Kind::Service),
        Table::Backends => named(Kind::EndpointSlice),
        Table::Peer | Table::Endpoint => {
            let pod = index.holder(&key.key).map(|pod| ObjectKey::namespaced(Kind::Pod, &pod.pod.name));
            pod.into_iter().collect()
        }
        Table::Policy => {
            let subject = key.key.parse().ok().and_then(|identity| index.subject(identity));
            let policies = subject.into_iter().flat_map(|subject| subject.policies);
            policies.map(|policy| ObjectKey::namespaced(Kind::NetworkPolicy, policy.name)).collect()
        }
        Table::Node => vec![ObjectKey::cluster(Kind::Node, &Arc::from(key.key.as_str()))],
        Table::Namespace => vec![ObjectKey::cluster(Kind::Namespace, &Arc::from(key.key.as_str()))],
        Table::Unspecified | Table::Settings | Table::Pool => Vec::new(),
    }
}
