//! CiliumPodIPPool: CIDRs out of which nodes are given smaller ones for their pods, in `ipam.mode: multi-pool`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::v2::{Cidr, Other};

/// A pool.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumPodIPPool",
    plural = "ciliumpodippools",
    singular = "ciliumpodippool",
    shortname = "cpip",
    category = "cilium",
    derive = "Default",
    derive = "PartialEq",
    doc = "CiliumPodIPPool is a pool of addresses for pods. Nodes are given parts of its CIDRs as their pods need them."
)]
#[serde(default)]
pub struct PodIpPoolSpec {
    /// IPv4 part of the pool. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Ipv4Cidrs")]
    pub ipv4: Option<PoolCidrs>,
    /// IPv6 part of the pool. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Ipv6Cidrs")]
    pub ipv6: Option<PoolCidrs>,
    /// Whether the first address of each CIDR that a node is given may be given to a pod. Without effect on CIDRs of one or
    /// two addresses, all of which may. Cannot be changed.
    #[serde(rename = "allowFirstIP")]
    #[schemars(extend("x-kubernetes-validations" = immutable("allowFirstIP")))]
    pub allow_first_ip: bool,
    /// Whether the last address of each CIDR that a node is given may be given to a pod. Without effect on CIDRs of one or
    /// two addresses, all of which may. Cannot be changed.
    #[serde(rename = "allowLastIP")]
    #[schemars(extend("x-kubernetes-validations" = immutable("allowLastIP")))]
    pub allow_last_ip: bool,
    /// Pods that get their addresses from this pool if neither they nor their namespace name one by an annotation
    /// (`ipam.cilium.io/ip-pool`). Beside a pod's labels it may ask for `io.kubernetes.pod.namespace` and
    /// `io.kubernetes.pod.name`. A pod that more than one pool selects gets no address.
    #[serde(rename = "podSelector", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Selector")]
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces whose pods may be selected. Where both selectors are given, both must match; absent or empty: all namespaces.
    #[serde(rename = "namespaceSelector", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Selector")]
    pub namespace_selector: Option<LabelSelector>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// One family of a pool.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolCidrs {
    /// The pool's CIDRs. More may be added at any time.
    pub cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    pub mask_size: u8,
    /// Fields unknown to this version.
    #[serde(flatten)]
    pub other: Other,
}

/// Schema of [`PoolCidrs`] of IPv4.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "its schema is what is used")]
struct Ipv4Cidrs {
    /// The pool's CIDRs. More may be added at any time.
    #[schemars(with = "Vec<Cidr>", length(min = 1))]
    cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    #[schemars(range(min = 1, max = 32), extend("x-kubernetes-validations" = immutable("maskSize")))]
    mask_size: u8,
}

/// Schema of [`PoolCidrs`] of IPv6.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "its schema is what is used")]
struct Ipv6Cidrs {
    /// The pool's CIDRs. More may be added at any time.
    #[schemars(with = "Vec<Cidr>", length(min = 1))]
    cidrs: Vec<String>,
    /// Prefix length of the CIDRs that nodes are given. Cannot be changed.
    #[serde(rename = "maskSize")]
    #[schemars(range(min = 1, max = 128), extend("x-kubernetes-validations" = immutable("maskSize")))]
    mask_size: u8,
}

/// The rule by which the API server refuses a change of a field.
fn immutable(field: &str) -> Value {
    json!([{"message": format!("{field} is immutable"), "rule": "self == oldSelf"}])
}

/// Schema of a label selector, with the bounds that Kubernetes sets for label values.
struct Selector;

impl JsonSchema for Selector {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {
                "matchExpressions": {
                    "type": "array",
                    "x-kubernetes-list-type": "atomic",
                    "items": {
                        "type": "object",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": {"type": "string"},
                            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                            "values": {
                                "type": "array",
                                "items": {"type": "string"},
                                "x-kubernetes-list-type": "atomic",
                            },
                        },
                    },
                },
                "matchLabels": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "string",
                        "maxLength": 63,
                        "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
                    },
                },
            },
        })
    }
}
