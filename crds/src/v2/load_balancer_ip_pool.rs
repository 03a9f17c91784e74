//! CiliumLoadBalancerIPPool: addresses for Services of type LoadBalancer.

#![allow(clippy::duplicated_attributes)] // columns of the same type

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::{Condition, LabelSelector};
use crate::schema::checked::Cidr;
use crate::schema::keyed;

/// Addresses, and which Services may have them.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumLoadBalancerIPPool",
    plural = "ciliumloadbalancerippools",
    singular = "ciliumloadbalancerippool",
    shortname = "ippools",
    shortname = "ippool",
    shortname = "lbippool",
    shortname = "lbippools",
    category = "cilium",
    status = "LoadBalancerIpPoolStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumLoadBalancerIPPool holds addresses for Services of type LoadBalancer.",
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(
        name = "Conflicting",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="cilium.io/PoolConflict")].status"#
    ),
    printcolumn(
        name = "IPs Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="cilium.io/IPsAvailable")].message"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIpPoolSpec {
    /// Services that may have addresses of this pool; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Whether the first and last address of each prefix are given, too; absent: `Yes`.
    #[schemars(extend("enum" = ["Yes", "No"]))]
    #[serde(rename = "allowFirstLastIPs", skip_serializing_if = "Option::is_none")]
    pub allow_first_last_ips: Option<String>,
    /// The addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<AddressBlock>>,
    /// Whether no more addresses are given. Those that are given stay.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Addresses, as a prefix or as a range.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AddressBlock {
    /// The prefix.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// First address of the range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last address of the range; absent: `start` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

/// State of the pool.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LoadBalancerIpPoolStatus {
    /// Its conditions: `cilium.io/PoolConflict`, `cilium.io/IPsAvailable` and others.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
