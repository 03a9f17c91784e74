//! CiliumDatapathPlugin: programs of others in the data path.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plugin.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumDatapathPlugin",
    plural = "ciliumdatapathplugins",
    singular = "ciliumdatapathplugin",
    shortname = "cddp",
    category = "cilium",
    deprecated,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumDatapathPlugin registers a plugin that adds programs to the data path."
)]
#[serde(rename_all = "camelCase")]
pub struct DatapathPluginSpec {
    /// What is done while the plugin does not answer: `Always` waits for it, `BestEffort` goes on without it.
    #[schemars(extend("enum" = ["Always", "BestEffort"]))]
    pub attachment_policy: String,
    /// Version of the plugin, in words of its own.
    pub version: String,
}
