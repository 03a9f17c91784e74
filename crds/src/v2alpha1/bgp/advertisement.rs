//! CiliumBGPAdvertisement, before interfaces could be announced.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::LabelSelector;
use crate::schema::rules;
use crate::v2::bgp::advertisement::{AdvertisedServices, Attributes, NO_SELECTOR, SERVICE};

/// What is announced.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumBGPAdvertisement",
    plural = "ciliumbgpadvertisements",
    singular = "ciliumbgpadvertisement",
    shortname = "cbgpadvert",
    category = "cilium",
    category = "ciliumbgp",
    storage = false,
    deprecated,
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
#[schemars(transform = rules(&[SERVICE, NO_SELECTOR]))]
#[serde(rename_all = "camelCase")]
pub struct Advertisement {
    /// Type: `PodCIDR` (the node's), `CiliumPodIPPool` (the node's parts of pools) or `Service` (addresses).
    #[schemars(extend("enum" = ["PodCIDR", "CiliumPodIPPool", "Service"]))]
    pub advertisement_type: String,
    /// Of Services: which addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<AdvertisedServices>,
    /// Labels of what is announced; absent: nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Attributes of the routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
}
