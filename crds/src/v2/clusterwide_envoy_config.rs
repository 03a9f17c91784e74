//! CiliumClusterwideEnvoyConfig: resources for Envoy, and the Services of any namespace whose traffic it gets.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envoy_config::EnvoyConfigSpec;

/// What stands at the root of a CiliumClusterwideEnvoyConfig.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumClusterwideEnvoyConfig",
    plural = "ciliumclusterwideenvoyconfigs",
    singular = "ciliumclusterwideenvoyconfig",
    shortname = "ccec",
    category = "cilium",
    no_spec,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumClusterwideEnvoyConfig configures Envoy, and says which Services send their traffic through it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterwideEnvoyConfigFields {
    /// What is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<EnvoyConfigSpec>,
}
