//! Addresses from AWS: `spec.eni` and `status.eni`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::checked::{Cidr, Count};
use crate::v2::Other;

/// Which network interfaces are made for a node, and which of them are used.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EniSpec {
    /// Type of the instance, for instance `m5.large`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// First interface whose addresses pods may have; those before it are left alone.
    #[schemars(with = "Option<Count>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_interface_index: Option<u32>,
    /// Security groups of new interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// Tags by which security groups of new interfaces are found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub security_group_tags: BTreeMap<String, String>,
    /// Subnets for new interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<String>,
    /// Tags by which subnets for new interfaces are found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subnet_tags: BTreeMap<String, String>,
    /// Subnet of the first interface, taken when none is chosen otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_subnet_id: Option<String>,
    /// VPC of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// Zone of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Interfaces with all these tags are left alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exclude_interface_tags: BTreeMap<String, String>,
    /// Whether an interface goes with its instance. Absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// Whether pods may have the primary address of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_primary_address: Option<bool>,
    /// Whether single addresses are fetched although prefixes could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_prefix_delegation: Option<bool>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The network interfaces of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EniStatus {
    /// Interfaces by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub enis: BTreeMap<String, Eni>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A network interface.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Eni {
    /// Id of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Primary address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Zone of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Description given when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Place of the interface on the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Subnet of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// VPC of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<Vpc>,
    /// Secondary addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Delegated IPv4 prefixes.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Delegated IPv6 prefixes.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<String>,
    /// Security groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// Tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Public address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A subnet.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Subnet {
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

/// A VPC.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Vpc {
    /// Id of the VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// First CIDR.
    #[schemars(with = "Option<Cidr>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_cidr: Option<String>,
    /// Further CIDRs.
    #[schemars(with = "Vec<Cidr>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}
