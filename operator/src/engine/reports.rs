//! What is to be written back to Kubernetes, for people: contents of `CiliumEndpoint`s and diagnostics of objects.

mod reporter;

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::nodesync::RowFailure;

use crate::object::{ContainerPort, Labels, Name, ObjectKey, Validity};

pub(super) use reporter::{Reporter, causes};

/// A change of what should be reported. The stream of these is complete: a reader that applies all of them from the start has
/// everything, whether or not it leads. It must read fast (into a map) and write slowly.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The `CiliumEndpoint` of this name should have this content; none: it should not exist.
    Endpoint(Name, Option<Arc<EndpointReport>>),
    /// What is wrong with an object, all of it; empty: nothing any more.
    Diagnostics(ObjectKey, Arc<[Diagnostic]>),
    /// The condition `Valid` of a policy should say this and does not; none: it says what it should, or is gone.
    Validity(ObjectKey, Option<Arc<Validity>>),
    /// Rows that a node fails to apply, or applies again (code NONE), with the object that each comes from if there is one.
    Failures(Arc<str>, Vec<(Option<ObjectKey>, RowFailure)>),
    /// All inputs were complete and everything was said once: endpoints that were not named may be deleted.
    Complete,
}

/// `CiliumEndpoint.status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// UID of the pod object, which shall own the CiliumEndpoint (also for mirror pods).
    pub pod_uid: Arc<str>,
    /// `identity.id`, when it has one yet.
    pub identity: Option<u32>,
    /// `identity.labels`, to be written as `source:key=value`.
    pub labels: Arc<Labels>,
    /// `networking.addressing`.
    pub addresses: Box<[IpAddr]>,
    /// `networking.node`: the first InternalIP of its node.
    pub node_ip: Option<IpAddr>,
    /// `named-ports`.
    pub named_ports: Box<[ContainerPort]>,
    /// `service-account`.
    pub service_account: Arc<str>,
    /// `id`, the node's number for it; 0 before it is attached.
    pub endpoint_id: u32,
    /// `state`.
    pub state: EndpointState,
    /// `policy.ingress.enforcing`.
    pub ingress_enforcing: bool,
    /// `policy.egress.enforcing`.
    pub egress_enforcing: bool,
}

/// `CiliumEndpoint.status.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// No identity yet.
    WaitingForIdentity,
    /// Everything is decided, the node has not attached it yet (or lost it).
    Creating,
    /// Attached.
    Ready,
    /// The pod is being deleted and still attached.
    Disconnecting,
}

impl EndpointState {
    /// As the CRD writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForIdentity => "waiting-for-identity",
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Disconnecting => "disconnecting",
        }
    }
}

/// One thing that is wrong with an object, for an event on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The event's reason.
    pub reason: Reason,
    /// The field, as `spec.ingress[0].from[1].ipBlock.cidr`; empty: the whole object.
    pub field: Box<str>,
    /// What is wrong, and what happens because of it.
    pub message: Box<str>,
}

/// Reasons of diagnostics; they are the reasons of events, so users may filter by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A field has no meaning; what it would allow stays closed.
    InvalidField,
    /// Nothing is done with a field yet; what it would allow stays closed.
    NotImplemented,
    /// A field has no effect as long as a Helm value has not turned it on.
    NotEnabled,
    /// A selector uses a label that is not part of identities, so it can never see it.
    LabelNotInIdentity,
    /// A policy selects no pod. Often it is only earlier than its pods, so it is no warning.
    NoMatchingPods,
    /// A policy selects no node, in the same way.
    NoMatchingNodes,
    /// A policy names an object that does not exist.
    NoSuchObject,
    /// An address or name that another object has.
    Conflict,
    /// A demand waits.
    Waiting,
}

impl Reason {
    /// As an event has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidField => "InvalidField",
            Self::NotImplemented => "NotImplemented",
            Self::NotEnabled => "NotEnabled",
            Self::LabelNotInIdentity => "LabelNotInIdentity",
            Self::NoMatchingPods => "NoMatchingPods",
            Self::NoMatchingNodes => "NoMatchingNodes",
            Self::NoSuchObject => "NoSuchObject",
            Self::Conflict => "Conflict",
            Self::Waiting => "Waiting",
        }
    }
}
