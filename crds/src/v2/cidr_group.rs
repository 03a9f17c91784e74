//! CiliumCIDRGroup: prefixes outside the cluster under a name.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::Cidr;

/// The prefixes.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumCIDRGroup",
    plural = "ciliumcidrgroups",
    singular = "ciliumcidrgroup",
    shortname = "ccg",
    category = "cilium",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumCIDRGroup is a list of prefixes outside the cluster, for the policies that name it."
)]
#[serde(rename_all = "camelCase")]
pub struct CidrGroupSpec {
    /// The prefixes.
    #[schemars(with = "Vec<Cidr>", length(min = 0))]
    #[serde(rename = "externalCIDRs")]
    pub external_cidrs: Vec<String>,
}
