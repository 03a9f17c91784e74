//! CiliumEgressGatewayPolicy: which pods leave the cluster by which node and address.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::EgressCidr;
use crate::schema::rules;

/// What stands at the root of a CiliumEgressGatewayPolicy.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumEgressGatewayPolicy",
    plural = "ciliumegressgatewaypolicies",
    singular = "ciliumegressgatewaypolicy",
    shortname = "cegp",
    category = "cilium",
    category = "ciliumpolicy",
    no_spec,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumEgressGatewayPolicy says by which node and address pods leave the cluster.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct EgressGatewayPolicyFields {
    /// Which pods leave how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<EgressGatewayPolicySpec>,
}

/// Which pods leave how.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressGatewayPolicySpec {
    /// The pods: those that any entry selects.
    pub selectors: Vec<EgressSelector>,
    /// Where to.
    #[schemars(with = "Vec<EgressCidr>")]
    #[serde(rename = "destinationCIDRs")]
    pub destination_cidrs: Vec<String>,
    /// Prefixes within `destinationCIDRs` that are not meant.
    #[schemars(with = "Option<Vec<EgressCidr>>")]
    #[serde(rename = "excludedCIDRs", skip_serializing_if = "Option::is_none")]
    pub excluded_cidrs: Option<Vec<String>>,
    /// The node by which they leave.
    pub egress_gateway: EgressGateway,
    /// Several of them; if there is any, `egressGateway` does not count.
    #[schemars(length(max = 64), extend("default" = []))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_gateways: Option<Vec<EgressGateway>>,
}

/// Pods. All fields must match.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressSelector {
    /// Labels of their namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Labels of their nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// A node by which pods leave.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressGateway {
    /// Labels of the node; of several the first by name.
    pub node_selector: LabelSelector,
    /// Device whose first address becomes their source. Not beside `egressIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Address that becomes their source. Not beside `interface`; without both the address of the device of the default
    /// route.
    #[schemars(length(max = 39), transform = rules(&[("self == '' || isIP(self)", "is no IP address")]))]
    #[serde(rename = "egressIP", skip_serializing_if = "Option::is_none")]
    pub egress_ip: Option<String>,
}
