//! What policy rows hold beside what nodes are sent: whose addresses a node needs for them, and whom they treat worse than others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axoneme_proto::tables::PolicyMode;

use crate::compile::policy::{Excepted, PolicyRow, Rows, Shared, host_row_id, row_id};
use crate::index::{Dirty, Index};
use crate::publish::journal::Batch;

/// All policy rows, as they were compiled last.
#[derive(Debug, Default)]
pub(super) struct Policies {
    of_pods: HashMap<u32, Arc<Shared>>,
    of_nodes: HashMap<Arc<str>, Arc<Shared>>,
    excepted: Excepted,
}

impl Policies {
    /// Compiles what is dirty, and marks what else depends on it.
    pub(super) fn compile(&mut self, index: &Index, mode: PolicyMode, dirty: &mut Dirty, batch: &mut Batch) {
        let mut rows = Rows::default();
        for identity in std::mem::take(&mut dirty.identities) {
            self.compile_pods(rows.row(index, identity, mode), identity, index, dirty, batch);
        }
        for node in std::mem::take(&mut dirty.hosts) {
            self.compile_node(rows.host_row(index, &node, mode), &node, index, dirty, batch);
        }
    }

    fn compile_pods(
        &mut self,
        row: Option<PolicyRow>,
        identity: u32,
        index: &Index,
        dirty: &mut Dirty,
        batch: &mut Batch,
    ) {
        let (row, new) = row.map(|row| (row.output.1, row.shared)).unzip();
        batch.rows.insert(row_id(identity), row);
        let old = match &new {
            Some(new) => self.of_pods.insert(identity, Arc::clone(new)),
            None => self.of_pods.remove(&identity),
        };
        self.except(old.as_deref(), new.as_deref(), index, dirty);
        if listed(old.as_ref()) != listed(new.as_ref()) {
            let pods = index.pods_of(identity).filter_map(|pod| index.pod(pod));
            dirty.scopes.extend(pods.filter_map(|entry| entry.pod.node.clone()));
        }
        let enforced = |shared: &Arc<Shared>| (shared.ingress, shared.egress);
        if old.as_ref().map(enforced) != new.as_ref().map(enforced) {
            dirty.reports.extend(index.pods_of(identity).cloned());
        }
    }

    fn compile_node(
        &mut self,
        row: Option<PolicyRow>,
        node: &Arc<str>,
        index: &Index,
        dirty: &mut Dirty,
        batch: &mut Batch,
    ) {
        let (row, new) = row.map(|row| (row.output.1, row.shared)).unzip();
        batch.rows.insert(host_row_id(node), row);
        let old = match &new {
            Some(new) => self.of_nodes.insert(Arc::clone(node), Arc::clone(new)),
            None => self.of_nodes.remove(node),
        };
        self.except(old.as_deref(), new.as_deref(), index, dirty);
        if listed(old.as_ref()) != listed(new.as_ref()) {
            dirty.scopes.insert(Arc::clone(node));
        }
    }

    /// Pods of which some row excepts others than before have another endpoint row.
    fn except(&mut self, old: Option<&Shared>, new: Option<&Shared>, index: &Index, dirty: &mut Dirty) {
        let excepted = |shared: Option<&'_ Shared>| shared.map(|shared| shared.excepted.clone()).unwrap_or_default();
        for identity in self.excepted.change(&excepted(old), &excepted(new)) {
            dirty.pods.extend(index.pods_of(identity).cloned());
        }
    }

    /// What is enforced on pods, by identity.
    pub(super) const fn of_pods(&self) -> &HashMap<u32, Arc<Shared>> {
        &self.of_pods
    }

    /// Identities that some row treats worse than pods at large.
    pub(super) const fn excepted(&self) -> &Excepted {
        &self.excepted
    }

    /// Identities whose addresses a node needs that has pods of `identities`: a list for each row that it enforces.
    pub(super) fn listed_on(&self, node: &str, identities: &BTreeSet<u32>) -> Vec<&[u32]> {
        let of_pods = identities.iter().map(|identity| listed(self.of_pods.get(identity)));
        of_pods.chain([listed(self.of_nodes.get(node))]).collect()
    }
}

fn listed(shared: Option<&Arc<Shared>>) -> &[u32] {
    shared.map(|shared| &*shared.listed).unwrap_or_default()
}
