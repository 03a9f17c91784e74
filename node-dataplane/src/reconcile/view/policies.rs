//! Policies of local identities.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_admin::node::{self, PolicyState, Sync};
use axoneme_bpf::policy::PolicyFlags;

use super::judge;
use crate::reconcile::Engine;
use crate::reconcile::ops::MapError;
use crate::reconcile::policy::InKernel;
use crate::reconcile::policy::translate::{Compiled, compile};

impl Engine {
    /// What is enforced on pods of this node, or shall be.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn view_policies(&self) -> Result<Vec<node::Policy>, MapError> {
        let mut local: BTreeMap<u32, usize> = BTreeMap::new();
        for endpoint in self.endpoints.ops().attached() {
            *local.entry(endpoint.enforcement.identity).or_default() += 1;
        }
        let mut programmed = self.policies.in_kernel()?;
        let mut subjects: BTreeSet<u32> = self.desired.policies().collect();
        subjects.extend(programmed.keys());
        let view = |identity| {
            let pods = local.get(&identity).copied().unwrap_or(0);
            self.subject_view(identity, programmed.remove(&identity), pods)
        };
        Ok(subjects.into_iter().map(view).collect())
    }

    fn subject_view(&self, identity: u32, kernel: Option<InKernel>, endpoints: usize) -> node::Policy {
        let row = self.desired.policy(identity).map(|(row, _)| row);
        let compiled = row.as_ref().and_then(|row| compile(row).ok());
        let desired = compiled.as_ref().map(wanted);
        let programmed = kernel.as_ref().map(state);
        let (mut sync, problem) = judge(&self.policies.queue, &identity, desired.as_ref(), programmed.as_ref());
        // As many rules of the same kind can still be others.
        let fingerprints = compiled.map(|compiled| compiled.fingerprint()).zip(kernel.as_ref().map(|k| k.fingerprint));
        if sync.is_good() && fingerprints.is_some_and(|(desired, programmed)| desired != programmed) {
            sync = Sync::Differs;
        }
        node::Policy {
            identity,
            sync,
            problem,
            endpoints,
            policies: row.map(|row| row.policies).unwrap_or_default(),
            desired,
            programmed,
            index: kernel.map_or(0, |kernel| kernel.index),
        }
    }
}

fn wanted(compiled: &Compiled) -> PolicyState {
    PolicyState { rules: compiled.rules.len(), classes: compiled.classes.len(), ..enforced(compiled.entry.flags) }
}

fn state(kernel: &InKernel) -> PolicyState {
    PolicyState { rules: kernel.rules, classes: kernel.classes, ..enforced(kernel.entry.flags) }
}

fn enforced(flags: PolicyFlags) -> PolicyState {
    PolicyState {
        ingress_enforced: flags.contains(PolicyFlags::ENFORCE_INGRESS),
        egress_enforced: flags.contains(PolicyFlags::ENFORCE_EGRESS),
        audits: flags.contains(PolicyFlags::AUDITS),
        ..PolicyState::default()
    }
}
