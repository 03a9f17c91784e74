//! What nodes say is attached.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::address::from_bytes;
use axoneme_proto::nodesync;

use crate::engine::Observed;
use crate::object::Name;

/// An attached pod, as its node reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The pod.
    pub pod: Name,
    /// Its addresses; those that make no sense are left out.
    pub addresses: Vec<IpAddr>,
    /// The node chose them.
    pub from_reserve: bool,
    /// The node's number for it.
    pub endpoint_id: u32,
    /// What it is enforced with.
    pub identity: u32,
}

#[derive(Debug, Default)]
struct OnNode {
    attached: BTreeMap<Arc<str>, Attachment>,
    /// Everything attached is known: what is not in `attached` is not attached.
    complete: bool,
    /// Endpoints said to be detached while not complete.
    detached: HashSet<Arc<str>>,
}

/// Attachments of all nodes.
#[derive(Debug, Default)]
pub struct Attachments {
    nodes: HashMap<Arc<str>, OnNode>,
}

impl Attachments {
    /// The attachment of an endpoint on a node.
    #[must_use]
    pub fn get(&self, node: &str, endpoint: &str) -> Option<&Attachment> {
        self.nodes.get(node)?.attached.get(endpoint)
    }

    /// All attachments of a node, sorted by endpoint.
    pub fn on(&self, node: &str) -> impl Iterator<Item = (&Arc<str>, &Attachment)> {
        self.nodes.get(node).into_iter().flat_map(|node| &node.attached)
    }

    /// Whether the endpoint is known not to be attached on the node.
    #[must_use]
    pub fn is_detached(&self, node: &str, endpoint: &str) -> bool {
        let Some(node) = self.nodes.get(node) else { return false };
        !node.attached.contains_key(endpoint) && (node.complete || node.detached.contains(endpoint))
    }

    /// Whether some endpoint is enforced with `identity`.
    #[must_use]
    pub fn enforce(&self, identity: u32) -> bool {
        self.nodes.values().flat_map(|node| node.attached.values()).any(|attached| attached.identity == identity)
    }

    /// Notes what `node` says; gives back the endpoints about which something else is known now.
    pub fn observe(&mut self, node: &Arc<str>, event: &Observed) -> Vec<Arc<str>> {
        let on = self.nodes.entry(Arc::clone(node)).or_default();
        match event {
            Observed::Attached(attached) => {
                let endpoint: Arc<str> = attached.pod_uid.as_str().into();
                on.detached.remove(&endpoint);
                on.attach(&endpoint, attachment(attached)).then_some(endpoint).into_iter().collect()
            }
            Observed::Detached(detached) => {
                let endpoint: Arc<str> = detached.pod_uid.as_str().into();
                on.attached.remove(&endpoint);
                if !on.complete {
                    on.detached.insert(Arc::clone(&endpoint));
                }
                vec![endpoint]
            }
            Observed::AllAttached(all) => on.replace(&all.attached),
            Observed::Report(_) => Vec::new(),
        }
    }

    /// Forgets a node that is gone; gives back its endpoints.
    pub fn forget(&mut self, node: &str) -> Vec<Arc<str>> {
        self.nodes.remove(node).map(|node| node.attached.into_keys().collect()).unwrap_or_default()
    }
}

impl OnNode {
    /// Tells whether that is something new.
    fn attach(&mut self, endpoint: &Arc<str>, attachment: Attachment) -> bool {
        let same = self.attached.get(endpoint) == Some(&attachment);
        self.attached.insert(Arc::clone(endpoint), attachment);
        !same
    }

    /// These are all; gives back the endpoints about which something else is known now.
    fn replace(&mut self, all: &[nodesync::Attached]) -> Vec<Arc<str>> {
        let named: BTreeMap<Arc<str>, Attachment> =
            all.iter().map(|attached| (attached.pod_uid.as_str().into(), attachment(attached))).collect();
        let mut changed: Vec<Arc<str>> =
            self.attached.keys().filter(|key| !named.contains_key(*key)).cloned().collect();
        self.attached.retain(|key, _| named.contains_key(key));
        for (endpoint, attachment) in named {
            if self.attach(&endpoint, attachment) {
                changed.push(endpoint);
            }
        }
        changed.extend(self.detached.drain());
        self.complete = true;
        changed
    }
}

fn attachment(attached: &nodesync::Attached) -> Attachment {
    let mut addresses: Vec<IpAddr> = attached.addresses.iter().filter_map(|bytes| from_bytes(bytes).ok()).collect();
    addresses.sort_unstable();
    Attachment {
        pod: Name::new(attached.pod_namespace.as_str(), attached.pod_name.as_str()),
        addresses,
        from_reserve: attached.from_reserve,
        endpoint_id: attached.endpoint_id,
        identity: attached.identity,
    }
}
