//! Ports and ICMP messages of a rule.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer7::{Layer7Rules, TlsContext};
use crate::schema::checked::{IcmpType, ServerName};
use crate::schema::patterns;

/// Ports, and what may be said there.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRule {
    /// The ports; without any, all.
    #[schemars(length(max = 40))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortProtocol>>,
    /// How TLS that comes from the client is ended here.
    #[serde(rename = "terminatingTLS", skip_serializing_if = "Option::is_none")]
    pub terminating_tls: Option<TlsContext>,
    /// How TLS to the server begins here.
    #[serde(rename = "originatingTLS", skip_serializing_if = "Option::is_none")]
    pub originating_tls: Option<TlsContext>,
    /// Names that the client may ask for in TLS.
    #[schemars(with = "Option<Vec<ServerName>>", length(min = 1), extend("x-kubernetes-list-type" = "set"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_names: Option<Vec<String>>,
    /// Listener of Envoy that gets the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
    /// What may be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Layer7Rules>,
}

/// Ports that are denied.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DenyPortRule {
    /// The ports; without any, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortProtocol>>,
}

/// A port, or a range of ports.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortProtocol {
    /// Number or name; absent or 0: any.
    #[schemars(extend("pattern" = patterns::PORT))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Last port, where a range is meant.
    #[schemars(range(min = 0, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
    /// Protocol; absent or `ANY`: any that has ports.
    #[schemars(extend("enum" = ["TCP", "UDP", "SCTP", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH", "ANY"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A listener of Envoy.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Where it is defined.
    pub envoy_config: EnvoyConfigName,
    /// Its name there.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which listener wins where several rules name one: the lowest number.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// A CiliumEnvoyConfig or CiliumClusterwideEnvoyConfig.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct EnvoyConfigName {
    /// Its kind; absent: that of the policy's scope.
    #[schemars(extend("enum" = ["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// ICMP messages.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct IcmpRule {
    /// The messages.
    #[schemars(length(max = 40))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<IcmpField>>,
}

/// Messages of one type.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IcmpField {
    /// `IPv4` or `IPv6`.
    #[schemars(extend("default" = "IPv4", "enum" = ["IPv4", "IPv6"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Number of the type, or its name in camel case (`EchoRequest`).
    #[schemars(with = "IcmpType")]
    pub type_: IntOrString,
}
