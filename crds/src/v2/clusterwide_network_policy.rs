//! CiliumClusterwideNetworkPolicy: what pods of all namespaces, or nodes, may receive and send.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{PolicyStatus, Rule};
use crate::schema::rules;

/// What stands at the root of a CiliumClusterwideNetworkPolicy: one rule or several.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumClusterwideNetworkPolicy",
    plural = "ciliumclusterwidenetworkpolicies",
    singular = "ciliumclusterwidenetworkpolicy",
    shortname = "ccnp",
    category = "cilium",
    category = "ciliumpolicy",
    no_spec,
    status = "PolicyStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumClusterwideNetworkPolicy says what pods of all namespaces, or nodes, may receive and send.",
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type=='Valid')].status")
)]
#[schemars(transform = rules(&[("has(self.spec) || has(self.specs)", "a policy needs a rule, in spec or in specs")]))]
pub struct ClusterwideNetworkPolicyFields {
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Rule>,
    /// Several rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub specs: Option<Vec<Rule>>,
}
