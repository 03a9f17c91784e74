//! CiliumNetworkPolicy: what pods of a namespace may receive and send.

#![allow(clippy::duplicated_attributes)] // columns of the same type

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{PolicyStatus, Rule};
use crate::schema::rules;

/// What stands at the root of a CiliumNetworkPolicy: one rule or several.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumNetworkPolicy",
    plural = "ciliumnetworkpolicies",
    singular = "ciliumnetworkpolicy",
    shortname = "cnp",
    shortname = "ciliumnp",
    category = "cilium",
    category = "ciliumpolicy",
    namespaced,
    no_spec,
    status = "PolicyStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumNetworkPolicy says what pods of its namespace may receive and send.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Valid", type_ = "string", json_path = ".status.conditions[?(@.type=='Valid')].status")
)]
#[schemars(transform = rules(&[("has(self.spec) || has(self.specs)", "a policy needs a rule, in spec or in specs")]))]
pub struct NetworkPolicyFields {
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Rule>,
    /// Several rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub specs: Option<Vec<Rule>>,
}
