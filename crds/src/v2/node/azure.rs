//! Addresses from Azure: `spec.azure` and `status.azure`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::Cidr;
use crate::v2::Other;

/// Where addresses are allocated.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AzureSpec {
    /// The one interface that gets all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The network interfaces of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AzureStatus {
    /// The interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<AzureInterface>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A network interface.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AzureInterface {
    /// Id of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Primary address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Name of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// State of its provisioning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Addresses of the interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AzureAddress>,
    /// Security group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group: Option<String>,
    /// Subnet of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<AzureSubnet>,
    /// Gateway of the subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// CIDR of the subnet.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// An address of an interface.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AzureAddress {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Subnet of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// State of its provisioning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A subnet.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AzureSubnet {
    /// Id of the subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// CIDR of the subnet.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}
