//! CiliumL2AnnouncementPolicy: which nodes answer for the addresses of which Services.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::{Condition, LabelSelector};
use crate::schema::keyed;

/// What stands at the root of a CiliumL2AnnouncementPolicy.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumL2AnnouncementPolicy",
    plural = "ciliuml2announcementpolicies",
    singular = "ciliuml2announcementpolicy",
    shortname = "l2announcement",
    category = "cilium",
    no_spec,
    status = "L2AnnouncementPolicyStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumL2AnnouncementPolicy says which nodes answer ARP and neighbour solicitations for the addresses of Services.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct L2AnnouncementPolicyFields {
    /// Which nodes answer for which Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<L2AnnouncementPolicySpec>,
}

/// Which nodes answer for which Services.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct L2AnnouncementPolicySpec {
    /// The nodes, one of which answers; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The Services; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Whether it is for their addresses of load balancers.
    #[serde(rename = "loadBalancerIPs", skip_serializing_if = "Option::is_none")]
    pub load_balancer_ips: Option<bool>,
    /// Whether it is for their external addresses.
    #[serde(rename = "externalIPs", skip_serializing_if = "Option::is_none")]
    pub external_ips: Option<bool>,
    /// Devices on which it is answered, as regular expressions; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<String>>,
}

/// What became of the policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct L2AnnouncementPolicyStatus {
    /// Conditions of the policy.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
