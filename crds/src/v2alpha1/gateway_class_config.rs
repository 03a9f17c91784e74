//! CiliumGatewayClassConfig: settings of a GatewayClass.

#![allow(clippy::duplicated_attributes)] // columns of the same type

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::Condition;
use crate::schema::{atomic_list, keyed};

/// What stands at the root of a CiliumGatewayClassConfig.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumGatewayClassConfig",
    plural = "ciliumgatewayclassconfigs",
    singular = "ciliumgatewayclassconfig",
    shortname = "cgcc",
    category = "cilium",
    namespaced,
    no_spec,
    status = "GatewayClassConfigStatus",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumGatewayClassConfig holds settings of the GatewayClasses that name it.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Description", type_ = "string", priority = 1, json_path = ".spec.description")
)]
pub struct GatewayClassConfigFields {
    /// The settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<GatewayClassConfigSpec>,
}

/// Settings of a GatewayClass.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassConfigSpec {
    /// What they are for, in words.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The Service that is made for a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<GatewayService>,
    /// How HTTP is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_options: Option<HttpOptions>,
}

/// The Service that is made for a Gateway: what becomes of its fields of the same names.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// `LoadBalancer` or `NodePort`.
    #[schemars(extend("default" = "LoadBalancer", "enum" = ["LoadBalancer", "NodePort"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// `Cluster` or `Local`.
    #[schemars(extend("default" = "Cluster"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// Class of the load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Families of its addresses: `IPv4`, `IPv6`.
    #[schemars(transform = atomic_list)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_families: Option<Vec<String>>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<String>,
    /// Whether it gets NodePorts, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Prefixes of clients.
    #[schemars(transform = atomic_list)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Whether those are the only clients, or the only ones that are not: `Allow` or `Deny`.
    #[schemars(extend("default" = "Allow", "enum" = ["Allow", "Deny"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_source_ranges_policy: Option<String>,
    /// Which backends are preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// How HTTP is spoken.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpOptions {
    /// Of gRPC-web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web_translation: Option<GrpcWebTranslation>,
}

/// Whether gRPC-web becomes gRPC.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct GrpcWebTranslation {
    /// Whether it does.
    #[schemars(extend("default" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// What became of the settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct GatewayClassConfigStatus {
    /// Conditions; `Accepted` says whether they were understood.
    #[schemars(transform = keyed("type"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
