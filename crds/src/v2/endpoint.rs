//! CiliumEndpoint: what is reported about a pod's attachment to the network.

#![allow(clippy::duplicated_attributes)] // columns of the same type

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressPair, EncryptionSpec, Other, other_at_root};

/// What stands at the root of a CiliumEndpoint beside its status: nothing that is known. The object has its pod's name and
/// namespace. The status is no subresource, so it is written with the object, never through `/status`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumEndpoint",
    plural = "ciliumendpoints",
    singular = "ciliumendpoint",
    shortname = "cep",
    shortname = "ciliumep",
    category = "cilium",
    namespaced,
    no_spec,
    status = "EndpointStatus",
    derive = "Default",
    derive = "PartialEq",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumEndpoint reports identity, addresses and policy of the pod of the same name.",
    printcolumn(
        name = "Security Identity",
        type_ = "integer",
        description = "Number of the endpoint's identity",
        json_path = ".status.identity.id"
    ),
    printcolumn(
        name = "Ingress Enforcement",
        type_ = "string",
        description = "Whether policy restricts what the endpoint receives",
        priority = 1,
        json_path = ".status.policy.ingress.state"
    ),
    printcolumn(
        name = "Egress Enforcement",
        type_ = "string",
        description = "Whether policy restricts what the endpoint sends",
        priority = 1,
        json_path = ".status.policy.egress.state"
    ),
    printcolumn(
        name = "Endpoint State",
        type_ = "string",
        description = "State of the endpoint",
        json_path = ".status.state"
    ),
    printcolumn(
        name = "IPv4",
        type_ = "string",
        description = "IPv4 address of the endpoint",
        json_path = ".status.networking.addressing[0].ipv4"
    ),
    printcolumn(
        name = "IPv6",
        type_ = "string",
        description = "IPv6 address of the endpoint",
        json_path = ".status.networking.addressing[0].ipv6"
    )
)]
pub struct EndpointFields {
    /// Fields unknown to this version.
    #[serde(flatten, deserialize_with = "other_at_root")]
    #[schemars(skip)]
    pub other: Other,
}

/// What is known about an endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EndpointStatus {
    /// Number of the endpoint on its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Background tasks of the endpoint that fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<ControllerStatus>,
    /// Names that other systems have for the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_identifiers: Option<ExternalIdentifiers>,
    /// Health of the endpoint and its parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<EndpointHealth>,
    /// The security identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<EndpointIdentity>,
    /// The latest warnings and errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<StatusChange>,
    /// Addresses of the endpoint and of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking: Option<EndpointNetworking>,
    /// Encryption of the endpoint's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// Policy per direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<EndpointPolicy>,
    /// Where the endpoint is in its life.
    #[schemars(with = "Option<String>", extend("enum" = STATES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<EndpointState>,
    /// Ports that have names, as policies may use them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named_ports: Vec<NamedPort>,
    /// The pod's service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The values that the schema allows for [`EndpointStatus::state`].
const STATES: [&str; 10] = [
    "creating",
    "waiting-for-identity",
    "not-ready",
    "waiting-to-regenerate",
    "regenerating",
    "restoring",
    "ready",
    "disconnecting",
    "disconnected",
    "invalid",
];

/// Where an endpoint is in its life.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// It is being made.
    Creating,
    /// Its labels have no number yet.
    WaitingForIdentity,
    /// It exists but is not programmed.
    NotReady,
    /// A change of its policy is queued.
    WaitingToRegenerate,
    /// A change of its policy is being applied.
    Regenerating,
    /// It is being taken over after a restart.
    Restoring,
    /// It is programmed.
    Ready,
    /// It is being removed.
    Disconnecting,
    /// It is removed.
    Disconnected,
    /// It cannot be programmed.
    Invalid,
    /// A state that this version does not know, so that reading never fails by it.
    #[serde(untagged)]
    Other(String),
}

/// A background task of an endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct ControllerStatus {
    /// Name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ControllerConfiguration>,
    /// How its runs went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ControllerRuns>,
    /// Id of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// When a background task runs.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ControllerConfiguration {
    /// Whether it is tried again after an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_retry: Option<bool>,
    /// First pause after an error, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_retry_base: Option<i64>,
    /// Pause between regular runs, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// How the runs of a background task went.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ControllerRuns {
    /// Failures since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_failure_count: Option<i64>,
    /// All failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_count: Option<i64>,
    /// Message of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_msg: Option<String>,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_timestamp: Option<String>,
    /// Time of the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_timestamp: Option<String>,
    /// All successes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_count: Option<i64>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Names that other systems have for an endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ExternalIdentifiers {
    /// Container and interface of the CNI ADD that made it (`container:ifname`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni_attachment_id: Option<String>,
    /// The runtime's id of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The runtime's name of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Endpoint id of Docker's network driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_endpoint_id: Option<String>,
    /// Network id of Docker's network driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_network_id: Option<String>,
    /// Namespace of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_namespace: Option<String>,
    /// Name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_pod_name: Option<String>,
    /// Namespace and name of the pod (`namespace/name`). Superseded by the two fields before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Health of an endpoint and its parts.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct EndpointHealth {
    /// Health of the programs and maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf: Option<String>,
    /// Whether the endpoint can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Health of the whole.
    #[serde(rename = "overallHealth", skip_serializing_if = "Option::is_none")]
    pub overall_health: Option<String>,
    /// Health of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The security identity of an endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct EndpointIdentity {
    /// Number of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Its labels, `source:key=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// An entry of an endpoint's log.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct StatusChange {
    /// `ok` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// State that the endpoint had afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Addresses of an endpoint and of its node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct EndpointNetworking {
    /// Addresses of the endpoint.
    pub addressing: Vec<AddressPair>,
    /// Address by which other nodes reach the endpoint's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Policy of an endpoint per direction.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct EndpointPolicy {
    /// What the endpoint may receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<EndpointPolicyDirection>,
    /// What the endpoint may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EndpointPolicyDirection>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Policy of an endpoint in one direction.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct EndpointPolicyDirection {
    /// Whether what no rule allows is dropped.
    pub enforcing: bool,
    /// Peers that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<IdentityTuple>,
    /// Peers that are denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<IdentityTuple>,
    /// Peers about to be removed. No longer written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<IdentityTuple>,
    /// Peers about to be added. No longer written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<IdentityTuple>,
    /// `enforcing`, `non-enforcing` (rules are only audited) or `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A peer by identity, port and protocol.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct IdentityTuple {
    /// Number of the peer's identity. 0 or absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<i64>,
    /// Labels of the peer's identity.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identity_labels: BTreeMap<String, String>,
    /// Destination port. 0 or absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
    /// IP protocol number. 0 or absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A port with a name.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct NamedPort {
    /// Name of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `TCP`, `UDP`, `SCTP` or `ANY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_schema_has_a_variant() {
        for state in STATES {
            let parsed: EndpointState = serde_json::from_value(state.into()).unwrap();
            assert!(!matches!(parsed, EndpointState::Other(_)), "{state} has no variant");
            assert_eq!(serde_json::to_value(&parsed).unwrap(), state);
        }
    }

    #[test]
    fn an_unknown_state_is_kept() {
        let parsed: EndpointState = serde_json::from_value("hibernating".into()).unwrap();
        assert_eq!(parsed, EndpointState::Other("hibernating".into()));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), "hibernating");
    }
}
