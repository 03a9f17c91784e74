//! CiliumEnvoyConfig: resources for Envoy, and the Services of the namespace whose traffic it gets.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::AnyObject;
use serde_json::Value;

/// What stands at the root of a CiliumEnvoyConfig.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumEnvoyConfig",
    plural = "ciliumenvoyconfigs",
    singular = "ciliumenvoyconfig",
    shortname = "cec",
    category = "cilium",
    namespaced,
    no_spec,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumEnvoyConfig configures Envoy, and says which Services of its namespace send their traffic through it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct EnvoyConfigFields {
    /// What is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<EnvoyConfigSpec>,
}

/// Resources for Envoy, and who uses them.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyConfigSpec {
    /// Services whose traffic goes to a listener of Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<RedirectedService>>,
    /// Services whose backends Envoy knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_services: Option<Vec<BackendService>>,
    /// Resources of xDS: listeners, routes, clusters, endpoints, secrets.
    #[schemars(with = "Vec<AnyObject>")]
    pub resources: Vec<Value>,
    /// Nodes on which this counts; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

/// A Service whose traffic goes to a listener.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RedirectedService {
    /// Its name.
    pub name: String,
    /// Its namespace; of a CiliumEnvoyConfig always the object's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Ports of the Service that are meant; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// Name of the listener; absent: the first of `resources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// A Service whose backends Envoy knows.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BackendService {
    /// Its name.
    pub name: String,
    /// Its namespace; absent: that of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Ports that are meant, by number or name; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Vec<String>>,
}
