//! What many kinds have in common: selectors and conditions.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::LabelValue;
use crate::schema::{atomic_list, patterns};

/// Selects by labels. All requirements must hold; an empty selector selects everything.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with the values they must have.
    #[schemars(with = "Option<BTreeMap<String,LabelValue>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements.
    #[schemars(transform = atomic_list)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

/// A requirement of a label.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LabelRequirement {
    /// Key of the label.
    pub key: String,
    /// How the label's value and `values` must stand to each other: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    pub operator: String,
    /// Values, where the operator is `In` or `NotIn`.
    #[schemars(transform = atomic_list)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Name of the aspect, for instance `cilium.io/PoolConflict`.
    #[schemars(length(max = 316), extend("pattern" = patterns::CONDITION_TYPE))]
    pub type_: String,
    /// Whether it holds: `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// Generation of the object for which this was found.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// Why, as a word for programs.
    #[schemars(length(min = 1, max = 1024), extend("pattern" = patterns::CONDITION_REASON))]
    pub reason: String,
    /// Why, for people. May be empty.
    #[schemars(length(max = 32768))]
    pub message: String,
}
