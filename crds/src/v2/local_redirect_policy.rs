//! CiliumLocalRedirectPolicy: traffic to an address or a Service goes to a pod of the same node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::{exactly_one, immutable, patterns};

/// What stands at the root of a CiliumLocalRedirectPolicy.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumLocalRedirectPolicy",
    plural = "ciliumlocalredirectpolicies",
    singular = "ciliumlocalredirectpolicy",
    shortname = "clrp",
    category = "cilium",
    category = "ciliumpolicy",
    namespaced,
    no_spec,
    status = "LocalRedirectPolicyStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumLocalRedirectPolicy sends traffic for an address or a Service to a pod of the same node.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct LocalRedirectPolicyFields {
    /// What is redirected where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<LocalRedirectPolicySpec>,
}

/// What is redirected where.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalRedirectPolicySpec {
    /// What is redirected.
    #[schemars(transform = immutable)]
    pub redirect_frontend: RedirectFrontend,
    /// Where to.
    #[schemars(transform = immutable)]
    pub redirect_backend: RedirectBackend,
    /// Whether what the backends send themselves goes to the frontend as it did.
    #[schemars(extend("default" = false), transform = immutable)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_redirect_from_backend: Option<bool>,
    /// What the policy is for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What is redirected.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one(&["addressMatcher", "serviceMatcher"]))]
#[serde(rename_all = "camelCase")]
pub struct RedirectFrontend {
    /// Traffic to an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_matcher: Option<AddressMatcher>,
    /// Traffic to a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_matcher: Option<ServiceMatcher>,
}

/// Traffic to an address.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressMatcher {
    /// The address.
    #[schemars(extend("pattern" = patterns::ADDRESS))]
    pub ip: String,
    /// Its ports; several need names.
    pub to_ports: Vec<RedirectPort>,
}

/// Traffic to a Service of the policy's namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMatcher {
    /// Name of the Service.
    pub service_name: String,
    /// Its namespace, which is the policy's.
    pub namespace: String,
    /// Its ports; absent: all of them. Several need names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ports: Option<Vec<RedirectPort>>,
}

/// Pods of the same node that get the traffic.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedirectBackend {
    /// Their labels.
    pub local_endpoint_selector: LabelSelector,
    /// Their ports; several have the names of the frontend's.
    pub to_ports: Vec<RedirectPort>,
}

/// A port.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RedirectPort {
    /// Its number.
    #[schemars(extend("pattern" = patterns::REDIRECT_PORT))]
    pub port: String,
    /// `TCP` or `UDP`.
    #[schemars(extend("enum" = ["TCP", "UDP"]))]
    pub protocol: String,
    /// Its name.
    #[schemars(extend("pattern" = patterns::REDIRECT_PORT_NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What became of the policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LocalRedirectPolicyStatus {
    /// Whether it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}
