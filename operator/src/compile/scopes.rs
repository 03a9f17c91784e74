//! Which scopes a node is given.

use std::collections::BTreeSet;

use axoneme_proto::Scope;

use crate::index::Index;

/// The scopes of a node: those of all nodes, its own, the policy of each identity that its pods have, and the peers that
/// those policies and its own list (`listed` tells). `None` when there is no such node.
#[must_use]
pub fn scopes<'a>(
    index: &Index,
    node: &str,
    listed: impl Fn(&BTreeSet<u32>) -> Vec<&'a [u32]>,
) -> Option<BTreeSet<Scope>> {
    index.node(node)?;
    // From binding on, before the pod has an address: its node shall know its policy before it attaches it.
    let identities: BTreeSet<u32> = index.pods_on(node).filter_map(|pod| index.identity_of(pod)).collect();
    // Identities that the same policies select share one list, which may be long.
    let mut lists = listed(&identities);
    lists.sort_unstable_by_key(|list| list.as_ptr());
    lists.dedup_by_key(|list| list.as_ptr());
    let mut peers: Vec<u32> = lists.into_iter().flatten().copied().collect();
    peers.sort_unstable();
    peers.dedup();
    let own = [Scope::Cluster, Scope::Services, Scope::Node(node.to_owned())].into_iter();
    let policies = identities.into_iter().map(Scope::Policy);
    Some(own.chain(policies).chain(peers.into_iter().map(Scope::Peers)).collect())
}
