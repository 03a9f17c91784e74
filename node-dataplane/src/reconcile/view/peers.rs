//! Nodes of the cluster, and identities by the addresses that have them.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_admin::node::{self, Sync};
use axoneme_proto::Scope;

use super::judge;
use crate::desired::rows::Node;
use crate::reconcile::Engine;
use crate::reconcile::ops::MapError;
use crate::reconcile::peers::PeerKey;

/// How many of those that differ are named.
const NAMED: usize = 5;

impl Engine {
    /// All nodes that this one knows.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn view_nodes(&self) -> Result<Vec<node::Node>, MapError> {
        self.desired.index().nodes().map(|(name, row)| self.node(name, row)).collect()
    }

    fn node(&self, name: &str, row: &Node) -> Result<node::Node, MapError> {
        let addresses = row.addresses.iter().chain(&row.overlay_addresses).copied().map(PeerKey::Address);
        let keys = addresses.chain(row.pod_cidrs.iter().copied().map(PeerKey::Cidr));
        let (mut worst, mut differing) = (Sync::AsDesired, Vec::new());
        for key in keys {
            let sync = self.peer(key)?;
            worst = worst.max(sync);
            if !sync.is_good() {
                differing.push(text(key));
            }
        }
        let texts = |all: &[std::net::IpAddr]| all.iter().map(ToString::to_string).collect();
        Ok(node::Node {
            name: name.to_owned(),
            sync: worst,
            addresses: texts(&row.addresses),
            overlay_addresses: texts(&row.overlay_addresses),
            pod_cidrs: row.pod_cidrs.iter().map(ToString::to_string).collect(),
            differing,
        })
    }

    /// How one key compares. What an attachment wrote is as desired: nothing else may be there.
    fn peer(&self, key: PeerKey) -> Result<Sync, MapError> {
        let (desired, programmed) = self.peers.look(key, &self.desired)?;
        Ok(judge(&self.peers.queue, &key, desired.as_ref(), programmed.as_ref()).0)
    }

    /// All identities whose pods run here, or that policies of those name.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn view_identities(&self) -> Result<Vec<node::Identity>, MapError> {
        let mut local: BTreeMap<u32, usize> = BTreeMap::new();
        for endpoint in self.endpoints.ops().attached() {
            *local.entry(endpoint.enforcement.identity).or_default() += 1;
        }
        let mut out: BTreeMap<u32, node::Identity> = BTreeMap::new();
        let scoped = self.desired.store().scopes().filter_map(|scope| match scope {
            Scope::Policy(identity) | Scope::Peers(identity) => Some(*identity),
            _ => None,
        });
        for identity in scoped.chain(local.keys().copied()) {
            out.entry(identity).or_insert_with(|| node::Identity {
                identity,
                endpoints: local.get(&identity).copied().unwrap_or(0),
                policy: self.desired.policy(identity).is_some(),
                ..Default::default()
            });
        }
        let index = self.desired.index();
        let claimed: BTreeSet<_> = index.claimed().collect();
        for address in claimed {
            let Some(claim) = index.claim(address).filter(|claim| *claim.node != *self.desired.node_name()) else {
                continue;
            };
            let Some(seen) = out.get_mut(&claim.identity) else { continue };
            seen.desired_addresses += 1;
            let sync = self.peer(PeerKey::Address(address))?;
            seen.sync = seen.sync.max(sync);
            if sync.is_good() {
                seen.programmed_addresses += 1;
            } else if seen.differing.len() < NAMED {
                seen.differing.push(address.to_string());
            }
        }
        Ok(out.into_values().collect())
    }
}

fn text(key: PeerKey) -> String {
    match key {
        PeerKey::Address(address) => address.to_string(),
        PeerKey::Cidr(cidr) => cidr.to_string(),
    }
}
