//! CiliumIdentity: a number for a set of labels.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Other, other_at_root};

/// What stands at the root of a CiliumIdentity, which has no `spec`. The object's name is the number in decimal; its labels
/// are those of `security-labels` that come from Kubernetes, for `kubectl get ciliumid -l`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumIdentity",
    plural = "ciliumidentities",
    singular = "ciliumidentity",
    shortname = "ciliumid",
    category = "cilium",
    no_spec,
    derive = "Default",
    derive = "PartialEq",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumIdentity gives a set of labels its number. The name is the number; pods with the same security labels share it.",
    printcolumn(
        name = "Namespace",
        type_ = "string",
        description = "Namespace of the pods that have this identity",
        json_path = r".metadata.labels.io\.kubernetes\.pod\.namespace"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "Time since the identity was allocated",
        json_path = ".metadata.creationTimestamp"
    )
)]
pub struct IdentityFields {
    /// The labels that define the identity, with their source (`k8s:app`) as keys. The source of truth: labels in the
    /// metadata are for searching only.
    #[serde(rename = "security-labels")]
    pub security_labels: BTreeMap<String, String>,
    /// Fields unknown to this version.
    #[serde(flatten, deserialize_with = "other_at_root")]
    #[schemars(skip)]
    pub other: Other,
}
