//! Attached pods: what they are enforced with.

use std::sync::Arc;

use axoneme_proto::{Scope, Table};

use super::ops::{EndpointOps, Enforcement};
use super::policy::{PeerChange, Policies};
use super::queue::{Failure, Queue};
use crate::desired::pods::CLOSED_POLICY;
use crate::desired::{Desired, RowId};

/// The reconciler of attached pods.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Endpoints {
    ops: Arc<dyn EndpointOps>,
    /// Pods that have to be looked at, by UID.
    pub queue: Queue<Box<str>>,
}

impl Endpoints {
    /// Over these attachments.
    #[must_use]
    pub fn new(ops: Arc<dyn EndpointOps>) -> Self {
        Self { ops, queue: Queue::default() }
    }

    /// The attachments.
    #[must_use]
    pub fn ops(&self) -> &dyn EndpointOps {
        &*self.ops
    }

    /// Whether an attached pod is enforced with this identity.
    #[must_use]
    pub fn uses(&self, identity: u32) -> bool {
        self.ops.attached().iter().any(|endpoint| endpoint.enforcement.identity == identity)
    }

    /// Marks all attached pods.
    pub fn mark_attached(&mut self, since: u64) {
        for endpoint in self.ops.attached() {
            self.queue.mark(endpoint.pod_uid.into(), since);
        }
    }

    /// Enforces what is desired of one pod, if it is attached. One without a row keeps what it has; one whose row needs what this
    /// build lacks is closed.
    ///
    /// # Errors
    /// DEPENDENCY while its policy is not in the kernel: it keeps what it has. Else what the kernel refused.
    pub fn reconcile(
        &mut self,
        pod_uid: &str,
        desired: &Desired,
        policies: &Policies,
        force: bool,
    ) -> Result<Option<PeerChange>, Failure> {
        let Some(attached) = self.ops.attached().into_iter().find(|attached| attached.pod_uid == pod_uid) else {
            return Ok(None);
        };
        let row = || RowId::new(Scope::Node(desired.node_name().into()), Table::Endpoint, pod_uid);
        if desired.withheld(&row()).is_some() {
            let closed = Enforcement { policy_index: CLOSED_POLICY, ..attached.enforcement.clone() };
            if attached.enforcement != closed || force {
                self.ops.enforce(pod_uid, &closed).map_err(|err| Failure::from(err).of(row()))?;
            }
            return Ok(None);
        }
        let Some(endpoint) = desired.endpoint(pod_uid) else { return Ok(None) };
        let Some(policy_index) = policies.applied_index(endpoint.identity) else {
            let message = format!("the policy of identity {} is not applied", endpoint.identity);
            return Err(Failure::dependency(message).of(row()));
        };
        let enforcement = Enforcement { identity: endpoint.identity, policy_index, limits: endpoint.limits };
        let old = attached.enforcement.identity;
        if attached.enforcement == enforcement && !force {
            return Ok(None);
        }
        self.ops.enforce(pod_uid, &enforcement).map_err(|err| Failure::from(err).of(row()))?;
        let (namespace, pod) = (&attached.namespace, &attached.name);
        if old != enforcement.identity {
            let revision = desired.row_revision(&row()).unwrap_or(0);
            tracing::info!(
                namespace,
                pod,
                identity = enforcement.identity,
                before = old,
                revision,
                "pod is relabelled"
            );
        }
        let change = PeerChange { identities: vec![old, enforcement.identity], of_scope: false };
        Ok((old != enforcement.identity).then_some(change))
    }
}
