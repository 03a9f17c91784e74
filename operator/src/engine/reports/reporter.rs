//! Makes reports, each only when it differs from the last one.

use std::collections::HashMap;
use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::{RowFailure, Table};

use super::{Diagnostic, EndpointReport, EndpointState, Reason, Report};
use crate::compile::policy::Shared;
use crate::index::{Index, PodEntry, PolicyEntry, Said};
use crate::object::{Kind, Name, ObjectKey, Validity};

/// So many of the things that are wrong with a policy stand in its condition.
const SHOWN: usize = 5;

/// Remembers what was reported.
#[derive(Debug, Default)]
pub struct Reporter {
    endpoints: HashMap<Name, Arc<EndpointReport>>,
    diagnostics: HashMap<ObjectKey, Arc<[Diagnostic]>>,
    unsaid: HashMap<ObjectKey, Arc<Validity>>,
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

    /// The diagnostics of a policy and its condition, if they differ.
    pub fn policy(&mut self, index: &Index, key: &ObjectKey) -> [Option<Report>; 2] {
        let policy = index.policy(key);
        let new = policy.map(|policy| diagnostics(index, policy)).unwrap_or_default();
        let validity = policy.and_then(unsaid);
        let validity = match (&validity, self.unsaid.get(key)) {
            (Some(new), Some(old)) if *new == **old => None,
            (None, None) => None,
            _ => Some(self.validity(key, validity)),
        };
        [self.diagnose(key.clone(), new.into()), validity]
    }

    fn validity(&mut self, key: &ObjectKey, new: Option<Validity>) -> Report {
        let new = new.map(Arc::new);
        match &new {
            Some(new) => drop(self.unsaid.insert(key.clone(), Arc::clone(new))),
            None => drop(self.unsaid.remove(key)),
        }
        Report::Validity(key.clone(), new)
    }

    /// The diagnostics of a pool, if they differ.
    pub fn pool(&mut self, index: &Index, name: &Arc<str>) -> Option<Report> {
        self.diagnose(ObjectKey::cluster(Kind::CiliumPodIPPool, name), index.pool_diagnostics(name).into())
    }

    /// The diagnostics of a service, if they differ.
    pub fn service(&mut self, index: &Index, name: &Name) -> Option<Report> {
        self.diagnose(ObjectKey::namespaced(Kind::Service, name), index.service_diagnostics(name).into())
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

/// What the condition of a policy should say, if it does not. Labels that identities do not have are often meant to be absent.
fn unsaid(policy: &PolicyEntry) -> Option<Validity> {
    let Said::Condition(said) = &policy.said else { return None };
    let unenforced = |reason| matches!(reason, Reason::InvalidField | Reason::NotImplemented | Reason::NotEnabled);
    let wrong = |diagnostic: &&Diagnostic| unenforced(diagnostic.reason);
    let wrong: Vec<&Diagnostic> = policy.diagnostics.iter().filter(wrong).collect();
    let lines = wrong.iter().take(SHOWN).map(|diagnostic| format!("{}: {}", diagnostic.field, diagnostic.message));
    let more = wrong.len().checked_sub(SHOWN + 1).map(|more| format!("{} more", more + 1));
    let message = match wrong.is_empty() {
        true => "all of it is enforced".to_owned(),
        false => lines.chain(more).collect::<Vec<_>>().join("; "),
    };
    let wanted = Validity { valid: wrong.is_empty(), message: message.into() };
    (said.as_ref() != Some(&wanted)).then_some(wanted)
}

/// What is wrong with a policy in itself, and with the pods and other objects that there are.
fn diagnostics(index: &Index, policy: &PolicyEntry) -> Vec<Diagnostic> {
    let mut diagnostics = policy.diagnostics.clone();
    diagnostics.extend(policy.mentions.iter().filter_map(|mention| {
        let missing = index.missing(&mention.object)?;
        let message = format!("there is no {missing}: this means nobody until there is one").into();
        Some(Diagnostic { reason: Reason::NoSuchObject, field: mention.field.clone(), message })
    }));
    if let Some(first) = policy.parts.first()
        && !policy.parts.iter().any(|part| index.selects_any(part))
    {
        let of_nodes = policy.parts.iter().filter(|part| part.is_about_nodes()).count();
        let (reason, nobody) = match of_nodes {
            0 => (Reason::NoMatchingPods, "no pod has"),
            some if some == policy.parts.len() => (Reason::NoMatchingNodes, "no node has"),
            _ => (Reason::NoMatchingPods, "neither a pod nor a node has"),
        };
        let message = format!("{nobody} these labels: the policy changes nothing until there is one").into();
        diagnostics.push(Diagnostic { reason, field: first.field.clone(), message });
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
            let subject = match key.scope.parse() {
                Ok(Scope::Node(node)) => index.host_subject(&node),
                _ => key.key.parse().ok().and_then(|identity| index.subject(identity)),
            };
            let policies = subject.into_iter().flat_map(|subject| subject.policies);
            policies.filter_map(|policy| policy.source.part()).map(|part| part.policy.clone()).collect()
        }
        Table::Node => vec![ObjectKey::cluster(Kind::Node, &Arc::from(key.key.as_str()))],
        Table::Namespace => vec![ObjectKey::cluster(Kind::Namespace, &Arc::from(key.key.as_str()))],
        Table::Unspecified | Table::Settings | Table::Pool => Vec::new(),
    }
}
