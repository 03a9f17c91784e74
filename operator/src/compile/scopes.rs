//! Which scopes a node is given.

use std::collections::BTreeSet;

use axoneme_proto::Scope;

use crate::index::Index;

/// The scopes of a node: those of all nodes, its own, the policy of each identity that its pods have, and the peers that
/// those policies list (`listed` tells). `None` when there is no such node.
#[must_use]
pub fn scopes<'a>(index: &Index, node: &str, listed: impl Fn(u32) -> &'a [u32]) -> Option<BTreeSet<Scope>> {
    index.node(node)?;
    let mut scopes = BTreeSet::from([Scope::Cluster, Scope::Services, Scope::Node(node.to_owned())]);
    // From binding on, before the pod has an address: its node shall know its policy before it attaches it.
    for identity in index.pods_on(node).filter_map(|pod| index.identity_of(pod)) {
        if scopes.insert(Scope::Policy(identity)) {
            scopes.extend(listed(identity).iter().map(|peer| Scope::Peers(*peer)));
        }
    }
    Some(scopes)
}
