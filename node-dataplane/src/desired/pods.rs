//! What CNI asks of the desired state.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axoneme_proto::nodesync::FailureCode;
use futures::future::BoxFuture;
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

    /// What a pod of this namespace gets without an operator. To be called after [`PodError::Unknown`] with `connected` false.
    fn reserve(&self, namespace: String) -> BoxFuture<'static, Result<ReserveSpec, PodError>>;
}
