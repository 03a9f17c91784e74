//! What a node's daemon tells: how it is, and for each kind of thing what is desired next to what the kernel has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be asked of a daemon, and how the paths are called.
pub mod subject {
    /// [`Status`](super::Status)
    pub const STATUS: &str = "status";
    /// A list of [`Endpoint`](super::Endpoint)s.
    pub const ENDPOINTS: &str = "endpoints";
    /// A list of [`Identity`](super::Identity)s.
    pub const IDENTITIES: &str = "identities";
    /// A list of [`Node`](super::Node)s.
    pub const NODES: &str = "nodes";
    /// A list of [`Policy`](super::Policy)s.
    pub const POLICIES: &str = "policies";
    /// A list of [`Service`](super::Service)s.
    pub const SERVICES: &str = "services";
    /// A list of the newest [`Verdict`](crate::verdict::Verdict)s, oldest first.
    pub const VERDICTS: &str = "verdicts";
}

/// How what the kernel has compares with what is desired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// It is as desired.
    #[default]
    AsDesired,
    /// It waits for something: to be looked at, or for what comes before it.
    Pending,
    /// It is in the kernel, and nobody desires it (any more).
    Leftover,
    /// It is desired and not in the kernel.
    Missing,
    /// The kernel has something else.
    Differs,
    /// It was tried, and the kernel refused.
    Failing,
}

impl Sync {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_good(self) -> bool {
        self == Self::AsDesired
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AsDesired => "as desired",
            Self::Pending => "pending",
            Self::Leftover => "leftover",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Failing => "failing",
        })
    }
}

/// How a daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Of the daemon.
    pub version: String,
    /// Of the node's kernel.
    pub kernel: String,
    /// Pods can be attached.
    pub ready: bool,
    /// What is wrong, for people.
    pub problems: Vec<String>,
    /// The connection to the operator.
    pub stream: Stream,
    /// How far the kernel follows.
    pub progress: Progress,
    /// The first rows that are not applied.
    pub failures: Vec<Failure>,
    /// How many there are of what.
    pub counts: Counts,
    /// How full the kernel's maps are, counted once a minute.
    pub maps: Vec<MapUse>,
    /// How long the daemon runs.
    pub uptime_seconds: u64,
}

/// The connection to the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    /// There is one.
    pub connected: bool,
    /// "ip:port" of the operator, the last one if there is none now; empty: there never was one.
    pub operator: String,
    /// For how long it is as it is.
    pub since_seconds: u64,
    /// Where operators are known to be.
    pub known_operators: Vec<String>,
    /// Why there is none.
    pub error: String,
}

/// How far the kernel follows what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The operator's journal that revisions belong to, in hexadecimal digits.
    pub epoch: String,
    /// Committed.
    pub received: u64,
    /// Every row up to here was tried in the kernel.
    pub attempted: u64,
    /// The lowest revision that failed and is tried again; 0: none.
    pub retry_low_watermark: u64,
    /// How many keys or rows are not as desired.
    pub failing: u64,
}

/// A row that is not applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// The row's scope.
    pub scope: String,
    /// The row's table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// Of the row.
    pub revision: u64,
    /// Kind of reason.
    pub code: String,
    /// In words.
    pub message: String,
}

/// How many there are of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Rows that the operator sent.
    pub rows: usize,
    /// Attached pods.
    pub endpoints: usize,
    /// Attached pods that are not enforced as desired.
    pub endpoints_waiting: usize,
    /// Identities with a policy in the kernel.
    pub policies: usize,
    /// Frontends in the kernel.
    pub frontends: usize,
    /// Nodes of the cluster that this one knows.
    pub nodes: usize,
}

/// How full a map is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MapUse {
    /// Its name.
    pub name: String,
    /// Entries it has.
    pub entries: u32,
    /// Entries that fit.
    pub capacity: u32,
}

/// A pod that is, or shall be, on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub pod_uid: String,
    /// How the two compare.
    pub sync: Sync,
    /// Why, if there is a reason.
    pub problem: String,
    /// What the operator wants.
    pub desired: Option<EndpointState>,
    /// What is in the kernel.
    pub programmed: Option<EndpointState>,
    /// Number in CiliumEndpoint's status; 0: not attached.
    pub endpoint_id: u32,
    /// The host's end of its pair of devices.
    pub device: String,
    /// No operator answered when it was attached: the node chose its address.
    pub from_reserve: bool,
}

/// What a pod is enforced with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointState {
    /// Its identity.
    pub identity: u32,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// An identity that this node knows: of a pod of its own, or of a peer that its policies name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// Its number.
    pub identity: u32,
    /// How addresses desired and programmed compare.
    pub sync: Sync,
    /// Attached pods that are enforced with it.
    pub endpoints: usize,
    /// Addresses that other nodes' pods have with it.
    pub desired_addresses: usize,
    /// How many of them the kernel resolves to it.
    pub programmed_addresses: usize,
    /// Some of those that differ.
    pub differing: Vec<String>,
    /// The node was given its policy.
    pub policy: bool,
}

/// A node of the cluster as this one has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// How the two compare.
    pub sync: Sync,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its overlay addresses.
    pub overlay_addresses: Vec<String>,
    /// Its pods' prefixes.
    pub pod_cidrs: Vec<String>,
    /// Which of all these the kernel has not as desired.
    pub differing: Vec<String>,
}

/// What is enforced on pods of one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The subject.
    pub identity: u32,
    /// How the two compare.
    pub sync: Sync,
    /// Why, if there is a reason.
    pub problem: String,
    /// Attached pods that are enforced with it.
    pub endpoints: usize,
    /// The policies that it comes from, like "networkpolicy:namespace/name".
    pub policies: Vec<String>,
    /// What the operator wants.
    pub desired: Option<PolicyState>,
    /// What is in the kernel.
    pub programmed: Option<PolicyState>,
    /// Index into `ax_policies`.
    pub index: u32,
}

/// The size and kind of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyState {
    /// What nothing allows is dropped on the way in.
    pub ingress_enforced: bool,
    /// ... on the way out.
    pub egress_enforced: bool,
    /// Some of its policies only audit.
    pub audits: bool,
    /// Entries in `ax_policy_rules`.
    pub rules: usize,
    /// Entries in `ax_policy_classes`.
    pub classes: usize,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The worst of its frontends.
    pub sync: Sync,
    /// Why, if there is a reason.
    pub problem: String,
    /// Its frontends.
    pub frontends: Vec<Frontend>,
}

/// A port of a service's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Frontend {
    /// "address:port/protocol"
    pub frontend: String,
    /// How the two compare.
    pub sync: Sync,
    /// Backends that the operator wants, "address:port".
    pub desired: Vec<String>,
    /// Backends in the kernel.
    pub programmed: Vec<String>,
}
