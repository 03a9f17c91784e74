//! CiliumNodeConfig: settings of some nodes only.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Other;
use crate::schema::atomic_list;

/// Settings that differ on the nodes that a selector names.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumNodeConfig",
    plural = "ciliumnodeconfigs",
    singular = "ciliumnodeconfig",
    namespaced,
    category = "cilium",
    derive = "Default",
    derive = "PartialEq",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumNodeConfig overrides settings on the nodes that its selector names. Where several name a node, they are taken in the order of their names, and later ones win."
)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigSpec {
    /// Settings by the names that they have in Cilium's ConfigMap (`mtu`, `routing-mode`), with their values as text.
    pub defaults: BTreeMap<String, String>,
    /// The nodes, by their labels. Empty: all nodes.
    pub node_selector: NodeSelector,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Labels that a node must have: all of the given, and all that is required of others.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NodeSelector {
    /// What is required of labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = atomic_list)]
    pub match_expressions: Vec<Requirement>,
    /// Labels with the values that they must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// What is required of a label.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Requirement {
    /// The label's name.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// With `In` and `NotIn`: the values, at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = atomic_list)]
    pub values: Vec<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}
