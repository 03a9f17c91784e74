//! Addresses from Alibaba Cloud: `spec.alibaba-cloud` and `status.alibaba-cloud`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::Cidr;
use crate::v2::Other;

/// Which network interfaces are made for a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AlibabaSpec {
    /// Type of the instance, for instance `ecs.g6.2xlarge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Zone of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// VPC of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// IPv4 CIDR of the VPC.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    /// Switches for new interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vswitches: Vec<String>,
    /// Tags by which switches for new interfaces are found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vswitch_tags: BTreeMap<String, String>,
    /// Security groups of new interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// Tags by which security groups of new interfaces are found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub security_group_tags: BTreeMap<String, String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The network interfaces of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AlibabaStatus {
    /// Interfaces by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub enis: BTreeMap<String, AlibabaEni>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A network interface.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AlibabaEni {
    /// Id of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// `Primary` or `Secondary`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Instance that has the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Security groups.
    #[serde(rename = "security-groupids", skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    /// VPC of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<AlibabaVpc>,
    /// Zone of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Switch of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vswitch: Option<VSwitch>,
    /// Primary address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_ip_address: Option<String>,
    /// All private addresses.
    #[serde(rename = "private-ipsets", skip_serializing_if = "Vec::is_empty")]
    pub private_ip_sets: Vec<PrivateIp>,
    /// Tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A private address of an interface.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PrivateIp {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    /// Whether it is the primary one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A VPC.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AlibabaVpc {
    /// Id of the VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// IPv4 CIDR.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// IPv6 CIDR.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr: Option<String>,
    /// Further IPv4 CIDRs.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondary_cidrs: Vec<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A switch, the subnet of this cloud.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct VSwitch {
    /// Id of the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vswitch_id: Option<String>,
    /// IPv4 CIDR.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// IPv6 CIDR.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}
