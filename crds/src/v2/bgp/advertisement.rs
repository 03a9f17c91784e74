//! CiliumBGPAdvertisement: what is announced to peers.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::checked::{Count, LargeCommunity, ServiceAddress, StandardCommunity, WellKnownCommunity};
use crate::schema::rules;

/// Announced Services name their addresses.
pub(crate) const SERVICE: (&str, &str) =
    ("self.advertisementType != 'Service' || has(self.service)", "an advertisement of Services needs service");

/// Only Services have their settings.
const ONLY_SERVICE: (&str, &str) =
    ("self.advertisementType == 'Service' || !has(self.service)", "service is for advertisements of Services only");

/// An announced interface is named.
const INTERFACE: (&str, &str) = (
    "self.advertisementType != 'Interface' || has(self.interface)",
    "an advertisement of an interface needs interface",
);

/// Only interfaces have their settings.
const ONLY_INTERFACE: (&str, &str) = (
    "self.advertisementType == 'Interface' || !has(self.interface)",
    "interface is for advertisements of interfaces only",
);

/// A node's CIDRs are announced without selection.
pub(crate) const NO_SELECTOR: (&str, &str) =
    ("self.advertisementType != 'PodCIDR' || !has(self.selector)", "an advertisement of pod CIDRs has no selector");

/// What is announced.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumBGPAdvertisement",
    plural = "ciliumbgpadvertisements",
    singular = "ciliumbgpadvertisement",
    shortname = "cbgpadvert",
    category = "cilium",
    category = "ciliumbgp",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumBGPAdvertisement says what is announced to the BGP peers whose families select it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct AdvertisementSpec {
    /// What is announced.
    pub advertisements: Vec<Advertisement>,
}

/// Routes of one type.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = rules(&[SERVICE, ONLY_SERVICE, INTERFACE, ONLY_INTERFACE, NO_SELECTOR]))]
#[serde(rename_all = "camelCase")]
pub struct Advertisement {
    /// Type: `PodCIDR` (the node's), `CiliumPodIPPool` (the node's parts of pools), `Service` (addresses) or
    /// `Interface` (addresses).
    #[schemars(extend("enum" = ["PodCIDR", "CiliumPodIPPool", "Service", "Interface"]))]
    pub advertisement_type: String,
    /// Of Services: which addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<AdvertisedServices>,
    /// Of an interface: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<AdvertisedInterface>,
    /// Labels of what is announced; absent: nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Attributes of the routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
}

/// Which addresses of Services are announced.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisedServices {
    /// Kinds of addresses.
    #[schemars(with = "Vec<ServiceAddress>", length(min = 1))]
    pub addresses: Vec<String>,
    /// Length of the IPv4 prefixes that are announced in their place.
    #[schemars(with = "Option<Count>", range(max = 31))]
    #[serde(rename = "aggregationLengthIPv4", skip_serializing_if = "Option::is_none")]
    pub aggregation_length_ipv4: Option<u8>,
    /// Length of the IPv6 prefixes that are announced in their place.
    #[schemars(with = "Option<Count>", range(max = 127))]
    #[serde(rename = "aggregationLengthIPv6", skip_serializing_if = "Option::is_none")]
    pub aggregation_length_ipv6: Option<u8>,
}

/// An interface whose addresses are announced.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AdvertisedInterface {
    /// Its name.
    pub name: String,
}

/// Attributes of routes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// Communities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<Communities>,
    /// Local preference; for peers of the same AS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<i64>,
}

/// Communities of routes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Communities {
    /// Of RFC 1997, as a number or as two.
    #[schemars(with = "Option<Vec<StandardCommunity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<Vec<String>>,
    /// Of RFC 1997, by their names.
    #[schemars(with = "Option<Vec<WellKnownCommunity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub well_known: Option<Vec<String>>,
    /// Of RFC 8092.
    #[schemars(with = "Option<Vec<LargeCommunity>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large: Option<Vec<String>>,
}
