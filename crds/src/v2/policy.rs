//! What [`CiliumNetworkPolicy`](super::CiliumNetworkPolicy) and
//! [`CiliumClusterwideNetworkPolicy`](super::CiliumClusterwideNetworkPolicy) say: rules and the status of a policy.
//!
//! An absent list and an empty one differ in rules (`fromEndpoints: []` selects nobody, without it everybody is meant), so
//! lists are optional here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::{Cidr, Entity};
use crate::schema::{exactly_one_and_at_least_one, keyed, patterns};
pub mod layer7;
pub mod peer;
pub mod port;

pub use layer7::{DnsRule, HeaderMatch, HttpRule, TlsContext};
pub use peer::{CidrRule, FqdnSelector, Group, ServiceSelector};
pub use port::{DenyPortRule, IcmpRule, PortProtocol, PortRule};

/// What selected endpoints, or nodes, may receive and send.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one_and_at_least_one(&["endpointSelector", "nodeSelector"], &["ingress", "ingressDeny", "egress", "egressDeny"]))]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The endpoints that the rule is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_selector: Option<LabelSelector>,
    /// The nodes that the rule is about; only in clusterwide policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// What may be received. If there is any entry, what no rule allows is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// What may not be received, whatever is allowed elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_deny: Option<Vec<IngressDenyRule>>,
    /// What may be sent. If there is any entry, what no rule allows is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
    /// What may not be sent, whatever is allowed elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_deny: Option<Vec<EgressDenyRule>>,
    /// Labels of the rule itself, by which flows tell which rule judged them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Label>>,
    /// Whether what no rule allows is dropped, where it is not to follow from the lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_default_deny: Option<DefaultDeny>,
    /// What the rule is for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is written into flows that this rule judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<RuleLog>,
}

/// Whether what no rule allows is dropped, per direction.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DefaultDeny {
    /// Of what is received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<bool>,
    /// Of what is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
}

/// What is written into flows that a rule judges.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleLog {
    /// Any text; empty or absent: none.
    #[schemars(length(max = 32), extend("pattern" = patterns::PRINTABLE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A label with its source.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Label {
    /// Key of the label.
    pub key: String,
    /// Where it comes from, for instance `k8s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Value of the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What may be received. A packet must match every field that is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// Endpoints it may come from. An empty list is nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_endpoints: Option<Vec<LabelSelector>>,
    /// Nodes it may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_nodes: Option<Vec<LabelSelector>>,
    /// Classes of peers it may come from.
    #[schemars(with = "Option<Vec<Entity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_entities: Option<Vec<String>>,
    /// Prefixes outside the cluster it may come from.
    #[schemars(with = "Option<Vec<Cidr>>")]
    #[serde(rename = "fromCIDR", skip_serializing_if = "Option::is_none")]
    pub from_cidr: Option<Vec<String>>,
    /// Prefixes outside the cluster it may come from, with exceptions.
    #[serde(rename = "fromCIDRSet", skip_serializing_if = "Option::is_none")]
    pub from_cidr_set: Option<Vec<CidrRule>>,
    /// Groups of a cloud it may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_groups: Option<Vec<Group>>,
    /// No longer supported: must be empty.
    #[schemars(length(max = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_requires: Option<Vec<String>>,
    /// Ports it may go to, and what it may say there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortRule>>,
    /// ICMP messages it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// How the peer must have proved who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// What may not be received. A packet must match every field that is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressDenyRule {
    /// Endpoints it comes from. An empty list is nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_endpoints: Option<Vec<LabelSelector>>,
    /// Nodes it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_nodes: Option<Vec<LabelSelector>>,
    /// Classes of peers it comes from.
    #[schemars(with = "Option<Vec<Entity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_entities: Option<Vec<String>>,
    /// Prefixes outside the cluster it comes from.
    #[schemars(with = "Option<Vec<Cidr>>")]
    #[serde(rename = "fromCIDR", skip_serializing_if = "Option::is_none")]
    pub from_cidr: Option<Vec<String>>,
    /// Prefixes outside the cluster it comes from, with exceptions.
    #[serde(rename = "fromCIDRSet", skip_serializing_if = "Option::is_none")]
    pub from_cidr_set: Option<Vec<CidrRule>>,
    /// Groups of a cloud it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_groups: Option<Vec<Group>>,
    /// No longer supported: must be empty.
    #[schemars(length(max = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_requires: Option<Vec<String>>,
    /// Ports it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<DenyPortRule>>,
    /// ICMP messages it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
}

/// What may be sent. A packet must match every field that is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// Endpoints it may go to. An empty list is nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_endpoints: Option<Vec<LabelSelector>>,
    /// Nodes it may go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_nodes: Option<Vec<LabelSelector>>,
    /// Classes of peers it may go to.
    #[schemars(with = "Option<Vec<Entity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_entities: Option<Vec<String>>,
    /// Prefixes outside the cluster it may go to.
    #[schemars(with = "Option<Vec<Cidr>>")]
    #[serde(rename = "toCIDR", skip_serializing_if = "Option::is_none")]
    pub to_cidr: Option<Vec<String>>,
    /// Prefixes outside the cluster it may go to, with exceptions.
    #[serde(rename = "toCIDRSet", skip_serializing_if = "Option::is_none")]
    pub to_cidr_set: Option<Vec<CidrRule>>,
    /// Groups of a cloud it may go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_groups: Option<Vec<Group>>,
    /// Services whose backends it may go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_services: Option<Vec<ServiceSelector>>,
    /// Domain names whose addresses it may go to.
    #[serde(rename = "toFQDNs", skip_serializing_if = "Option::is_none")]
    pub to_fqdns: Option<Vec<FqdnSelector>>,
    /// No longer supported: must be empty.
    #[schemars(length(max = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_requires: Option<Vec<String>>,
    /// Ports it may go to, and what it may say there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<PortRule>>,
    /// ICMP messages it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
    /// How the peer must have proved who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// What may not be sent. A packet must match every field that is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressDenyRule {
    /// Endpoints it goes to. An empty list is nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_endpoints: Option<Vec<LabelSelector>>,
    /// Nodes it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_nodes: Option<Vec<LabelSelector>>,
    /// Classes of peers it goes to.
    #[schemars(with = "Option<Vec<Entity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_entities: Option<Vec<String>>,
    /// Prefixes outside the cluster it goes to.
    #[schemars(with = "Option<Vec<Cidr>>")]
    #[serde(rename = "toCIDR", skip_serializing_if = "Option::is_none")]
    pub to_cidr: Option<Vec<String>>,
    /// Prefixes outside the cluster it goes to, with exceptions.
    #[serde(rename = "toCIDRSet", skip_serializing_if = "Option::is_none")]
    pub to_cidr_set: Option<Vec<CidrRule>>,
    /// Groups of a cloud it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_groups: Option<Vec<Group>>,
    /// Services whose backends it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_services: Option<Vec<ServiceSelector>>,
    /// No longer supported: must be empty.
    #[schemars(length(max = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_requires: Option<Vec<String>>,
    /// Ports it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<DenyPortRule>>,
    /// ICMP messages it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmps: Option<Vec<IcmpRule>>,
}

/// How a peer must have proved who it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Authentication {
    /// `disabled`, `required` or, for tests, `test-always-fail`.
    #[schemars(extend("enum" = ["disabled", "required", "test-always-fail"]))]
    pub mode: String,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its conditions; `Valid` says whether it was understood.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<PolicyCondition>>,
    /// State of policies that follow from this one, by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derivative_policies: Option<BTreeMap<String, NodePolicyStatus>>,
}

/// One aspect of a policy's state.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCondition {
    /// Name of the aspect.
    pub type_: String,
    /// Whether it holds: `True`, `False` or `Unknown`.
    pub status: String,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, as a word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// State of a policy on a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePolicyStatus {
    /// Whether it was understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// Revision of the node's policies that first had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_policy_revision: Option<i64>,
    /// Whether all endpoints that were there when it came judge by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcing: Option<bool>,
    /// Annotations of the policy as it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}
