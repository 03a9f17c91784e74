//! What CNI is told of a pod.

use std::time::Duration;

use axoneme_proto::nodesync::FailureCode;
use axoneme_proto::{Scope, Table};
use tokio::time::Instant;

use super::engine::Engine;
use crate::desired::RowId;
use crate::desired::pods::{CLOSED_POLICY, EndpointSpec, INIT_IDENTITY, OPEN_POLICY, PodError, PodRef, ReserveSpec};
use crate::desired::rows::Endpoint;

/// How long a policy stays for a pod that CNI was told of and that is not attached yet.
const GRANTED: Duration = Duration::from_secs(60);

impl Engine {
    /// What this pod gets, or why it has to wait.
    ///
    /// # Errors
    /// When something that it needs is not there yet; ask again after the next round.
    pub fn grant(&mut self, pod: &PodRef, connected: bool, now: Instant) -> Result<EndpointSpec, PodError> {
        let PodRef { namespace, name, .. } = pod.clone();
        let row = RowId::new(Scope::Node(self.desired.node_name().into()), Table::Endpoint, &pod.uid);
        if let Some(rejection) = self.desired.withheld(&row) {
            return Err(PodError::Refused { namespace, name, message: rejection.message.clone() });
        }
        let known = |endpoint: &Endpoint| pod.chained || !endpoint.addresses.is_empty();
        let endpoint = self.desired.endpoint(&pod.uid).filter(known);
        let Some(endpoint) = endpoint else { return Err(PodError::Unknown { namespace, name, connected }) };
        let identity = endpoint.identity;
        let waits = |code, message| PodError::Policy { namespace, name, identity, code, message };
        if let Some(rejection) = self.desired.withheld(&self.desired.policy_row(identity)) {
            return Err(waits(rejection.code, rejection.message.clone()));
        }
        // Also when an earlier policy of this identity is in force: what is newer may be stricter.
        if let Some(failure) = self.policies.queue.failure(&identity) {
            return Err(waits(failure.code, failure.message.clone()));
        }
        let Some(policy_index) = self.policies.applied_index(identity) else {
            return Err(waits(FailureCode::Dependency, "its row has not come yet".into()));
        };
        if self.policies.queue.is_open(&identity) || self.peers.queue.lowest_pending().is_some() {
            return Err(waits(FailureCode::Dependency, "a change of it is being written".into()));
        }
        let revision = self.desired.row_revision(&row).unwrap_or(0);
        if self.lowest_pending().is_some_and(|pending| pending <= revision) {
            return Err(waits(FailureCode::Dependency, "what came before its row is being written".into()));
        }
        let (gateways, mtu) = self.gateways()?;
        self.granted.insert(identity, now + GRANTED);
        let Endpoint { addresses, named_ports, limits, strict_barrier, .. } = endpoint;
        Ok(EndpointSpec {
            identity,
            policy_index,
            addresses,
            limits,
            revision,
            strict_barrier,
            gateways,
            named_ports,
            mtu,
        })
    }

    /// What a pod gets without an operator.
    ///
    /// # Errors
    /// When the node never heard of a reserve, or its network is not set up.
    pub fn reserve(&self, pod: &PodRef) -> Result<ReserveSpec, PodError> {
        let ranges: Vec<_> = self.desired.pools().flat_map(|pool| pool.reserve).collect();
        if ranges.is_empty() && !pod.chained {
            return Err(PodError::NoReserve);
        }
        let (gateways, mtu) = self.gateways()?;
        // A namespace that was never heard of may have a policy.
        let open = self.desired.namespace_has_policy(&pod.namespace) == Some(false);
        let policy_index = if open { OPEN_POLICY } else { CLOSED_POLICY };
        Ok(ReserveSpec { ranges, identity: INIT_IDENTITY, policy_index, gateways, mtu })
    }

    /// Whether pods can be attached at all.
    ///
    /// # Errors
    /// When the node's network is not set up.
    pub fn ready(&self) -> Result<(), PodError> {
        self.gateways().map(drop)
    }

    fn gateways(&self) -> Result<(Vec<std::net::IpAddr>, u32), PodError> {
        let unready = |why: &str| PodError::Network(why.to_owned());
        if !self.is_adopted() {
            return Err(unready("the daemon is starting"));
        }
        match self.network.state() {
            Some((_, state)) if !state.refused.is_empty() => Err(unready(&state.refused.join("; "))),
            Some((spec, state)) => Ok((spec.overlay_addresses.clone(), state.pod_mtu)),
            None => match self.network.queue.failure(&()) {
                Some(failure) => Err(unready(&failure.message)),
                None => Err(unready(self.network.waiting().unwrap_or("no operator was reached yet"))),
            },
        }
    }
}
