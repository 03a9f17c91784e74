//! What attached pods are enforced with, as the state half sees it.

use std::collections::BTreeMap;

use super::attachment::Phase;
use super::store::StoreError;
use super::{Endpoints, State};
use crate::reconcile::ops::{AttachedEndpoint, EndpointApplyError, EndpointOps, Enforcement};

impl EndpointOps for Endpoints {
    fn attached(&self) -> Vec<AttachedEndpoint> {
        let state = self.state();
        let mut pods: BTreeMap<&str, (u64, AttachedEndpoint)> = BTreeMap::new();
        for attachment in state.store.all().filter(|attachment| attachment.phase == Phase::Attached) {
            if pods.get(attachment.pod_uid.as_str()).is_some_and(|(later, _)| *later > attachment.sequence) {
                continue;
            }
            let endpoint = AttachedEndpoint {
                pod_uid: attachment.pod_uid.clone(),
                namespace: attachment.namespace.clone(),
                name: attachment.name.clone(),
                enforcement: attachment.enforcement(),
                addresses: attachment.addresses.clone(),
                from_reserve: attachment.from_reserve,
            };
            pods.insert(&attachment.pod_uid, (attachment.sequence, endpoint));
        }
        pods.into_values().map(|(_, endpoint)| endpoint).collect()
    }

    fn follow(&self, pod_mtu: u32) {
        self.inner.network.send_replace(pod_mtu);
    }

    fn enforce(&self, pod_uid: &str, enforcement: &Enforcement) -> Result<(), EndpointApplyError> {
        let mut state = self.state();
        let State { store, maps, .. } = &mut *state;
        let mut attachments: Vec<_> = store.of_pod(pod_uid).filter(|a| a.phase != Phase::Detaching).cloned().collect();
        attachments.sort_by_key(|attachment| attachment.sequence);
        for mut attachment in attachments {
            let changed = attachment.enforcement() != *enforcement;
            let relabelled = attachment.identity != enforcement.identity && attachment.phase == Phase::Attached;
            (attachment.identity, attachment.policy_index) = (enforcement.identity, enforcement.policy_index);
            attachment.limits = enforcement.limits;
            // One in the making writes its entry at its end, with what stands in the store by then.
            if attachment.phase == Phase::Attached {
                maps.enforce(&attachment)?;
            }
            if changed {
                let report = attachment.clone();
                store.put(attachment).map_err(|error| match error {
                    StoreError::Write { source, .. } | StoreError::Directory { source, .. } => {
                        EndpointApplyError::Persist(source)
                    }
                })?;
                if relabelled {
                    // The operator keeps identities that somebody is enforced with.
                    self.report_attached(&report);
                }
            }
        }
        Ok(())
    }
}
