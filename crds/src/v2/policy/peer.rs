//! Peers of a rule that are not endpoints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::Cidr;
use crate::schema::{exactly_one, patterns};

/// Prefixes outside the cluster, by one of three ways to name them.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one(&["cidr", "cidrGroupRef", "cidrGroupSelector"]))]
#[serde(rename_all = "camelCase")]
pub struct CidrRule {
    /// The prefix.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Name of a CiliumCIDRGroup with the prefixes.
    #[schemars(length(max = 253), extend("pattern" = patterns::NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_group_ref: Option<String>,
    /// Labels of CiliumCIDRGroups with the prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_group_selector: Option<LabelSelector>,
    /// Prefixes within that are not meant.
    #[schemars(with = "Option<Vec<Cidr>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
}

/// Domain names.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one(&["matchName", "matchPattern"]))]
#[serde(rename_all = "camelCase")]
pub struct FqdnSelector {
    /// This very name.
    #[schemars(length(max = 255), extend("pattern" = patterns::DOMAIN))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_name: Option<String>,
    /// Names with wildcards: `*` is any number of characters that a name's part may have, `**.` any number of parts.
    #[schemars(length(max = 255), extend("pattern" = patterns::DOMAIN_PATTERN))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_pattern: Option<String>,
}

/// Addresses that a cloud knows.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Group {
    /// Of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsGroup>,
}

/// Network interfaces of AWS. All fields must match.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsGroup {
    /// Tags of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Ids of security groups, any of which it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups_ids: Option<Vec<String>>,
    /// Names of security groups, any of which it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups_names: Option<Vec<String>>,
    /// Not used any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Services of Kubernetes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSelector {
    /// One, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_service: Option<ServiceName>,
    /// Some, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_service_selector: Option<LabelledServices>,
}

/// A Service by its name.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceName {
    /// Name of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Its namespace; absent or empty: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Services by their labels.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LabelledServices {
    /// The labels.
    pub selector: LabelSelector,
    /// Their namespace; absent or empty: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
