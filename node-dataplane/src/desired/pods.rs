//! What CNI asks of the desired state.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::nodesync::FailureCode;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// `ax_policies` of endpoints without a policy row: enforces both directions, no rules.
pub const CLOSED_POLICY: u32 = 0;
/// `ax_policies` of `init` pods in namespaces that had no policy: enforces nothing.
pub const OPEN_POLICY: u32 = 1;
/// The reserved identity of pods whose labels the node does not know (Cilium's number).
pub const INIT_IDENTITY: u32 = 5;

/// The pod of a CNI ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// `K8S_POD_UID`: key of its endpoint row (mirror pods: their config's).
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Another plugin has given it its addresses.
    pub chained: bool,
}

/// How fast a pod may send and get, in bytes per second; 0: as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// What it sends.
    pub egress: u64,
    /// What it gets.
    pub ingress: u64,
}

/// What a pod gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its identity.
    pub identity: u32,
    /// Index into `ax_policies`; already written there.
    pub policy_index: u32,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// How fast it may send and get.
    pub limits: Limits,
    /// Of its row.
    pub revision: u64,
    /// Its ADD must not succeed before its peers were told of it.
    pub strict_barrier: bool,
    /// This node's overlay addresses: the pod's gateway in each family.
    pub gateways: Vec<IpAddr>,
    /// Ports by name.
    pub named_ports: BTreeMap<String, u16>,
    /// MTU of the pod's interface.
    pub mtu: u32,
}

/// What a pod gets when no operator answers: the caller chooses a free address from `ranges`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveSpec {
    /// Inclusive ranges that only this node assigns from.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// [`INIT_IDENTITY`].
    pub identity: u32,
    /// [`OPEN_POLICY`] if the namespace was last known to have no policy, else [`CLOSED_POLICY`].
    pub policy_index: u32,
    /// This node's overlay addresses: the pod's gateway in each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the pod's interface.
    pub mtu: u32,
}

/// Whether those who have to know of a pod do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// They do, but for so many nodes that were silent for too long to wait for.
    Told {
        /// How many.
        skipped: u32,
    },
    /// The operator did not say so in time.
    Timeout,
    /// No operator is connected that could say so.
    Disconnected,
}

/// Why a pod cannot be attached yet. All are worth a retry by the kubelet.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PodError {
    /// The deadline passed without the operator having told of the pod.
    #[error("the operator has not told of pod {namespace}/{name} yet ({})", if *.connected { "it is connected" } else { "no operator is connected" })]
    Unknown {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// Whether a stream is up. If not, an address from the reserve is in order.
        connected: bool,
    },
    /// This version of the daemon does not understand what the operator says of the pod.
    #[error("the row of pod {namespace}/{name} is refused: {message}")]
    Refused {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// Why.
        message: String,
    },
    /// The pod is known, but its policy is not in the kernel.
    #[error("the policy of identity {identity} (pod {namespace}/{name}) is not applied: {code:?}: {message}")]
    Policy {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// Its identity.
        identity: u32,
        /// Why.
        code: FailureCode,
        /// Why, in words.
        message: String,
    },
    /// The node's network is not set up: no settings, overlay address or device yet.
    #[error("the node's network is not ready: {0}")]
    Network(String),
    /// The node has no reserve for this family or pool.
    #[error("this node has no reserve of addresses yet: no operator was ever reached")]
    NoReserve,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What the CNI server asks. Implemented by the daemon's state, and by a fake in the CNI server's tests.
pub trait Pods: Send + Sync {
    /// What this pod gets, as soon as its endpoint row is known and its identity's policy is in the kernel, or why not at
    /// `deadline`.
    fn endpoint(&self, pod: PodRef, deadline: Instant) -> BoxFuture<'static, Result<EndpointSpec, PodError>>;

    /// What a pod gets without an operator. To be called after [`PodError::Unknown`] with `connected` false. A chained pod has
    /// its addresses already: for it there need not be a reserve.
    fn reserve(&self, pod: PodRef) -> BoxFuture<'static, Result<ReserveSpec, PodError>>;

    /// Whether those who have to know of this pod do, as soon as they do or an operator is gone, or at `deadline`. `revision` is
    /// that of [`EndpointSpec::revision`].
    fn told(&self, pod_uid: String, revision: u64, deadline: Instant) -> BoxFuture<'static, Told>;

    /// Whether pods can be attached at all.
    fn network(&self) -> BoxFuture<'static, Result<(), PodError>>;
}
