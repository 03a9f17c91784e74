//! CiliumNode: what the network knows about a node, and the ledger of its addresses.

#![allow(clippy::duplicated_attributes)] // columns of the same type

pub mod alibaba;
pub mod aws;
pub mod azure;
pub mod ipam;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressPair, EncryptionSpec, Other};
pub use ipam::{AllocationIp, IpamSpec, IpamStatus};

/// [`NodeAddress::type_`] of the address by which other nodes reach the node.
pub const INTERNAL_IP: &str = "InternalIP";
/// [`NodeAddress::type_`] of the address that the node has in the pods' network.
pub const CILIUM_INTERNAL_IP: &str = "CiliumInternalIP";

/// What the network knows about a node. The object has the node's name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumNode",
    plural = "ciliumnodes",
    singular = "ciliumnode",
    shortname = "cn",
    shortname = "ciliumn",
    category = "cilium",
    status = "NodeStatus",
    derive = "Default",
    derive = "PartialEq",
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumNode holds the addresses of a node, the CIDRs that it was given and who has which address of them.",
    printcolumn(
        name = "CiliumInternalIP",
        type_ = "string",
        description = "Address of the node in the network of the pods",
        json_path = r#".spec.addresses[?(@.type=="CiliumInternalIP")].ip"#
    ),
    printcolumn(
        name = "InternalIP",
        type_ = "string",
        description = "Address of the node",
        json_path = r#".spec.addresses[?(@.type=="InternalIP")].ip"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "Time since the object was made",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(default, rename_all = "kebab-case")]
pub struct NodeSpec {
    /// The cloud's identifier of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Identifier of the machine's current boot.
    #[serde(rename = "bootid", skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// All addresses of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Addresses of the node's endpoint for health probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<AddressPair>,
    /// Addresses of the node's listener for Ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AddressPair>,
    /// Encryption of the node's traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// How addresses come from AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eni: Option<aws::EniSpec>,
    /// How addresses come from Azure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<azure::AzureSpec>,
    /// How addresses come from Alibaba Cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alibaba_cloud: Option<alibaba::AlibabaSpec>,
    /// CIDRs and addresses of the node's pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamSpec>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// An address of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `CiliumInternalIP` and others.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

impl NodeAddress {
    /// An address with its type, for instance [`CILIUM_INTERNAL_IP`].
    pub fn new(type_: &str, ip: impl ToString) -> Self {
        Self { type_: Some(type_.to_owned()), ip: Some(ip.to_string()), other: Other::new() }
    }
}

/// What was found out and done about a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct NodeStatus {
    /// Network interfaces at AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eni: Option<aws::EniStatus>,
    /// Network interfaces at Azure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<azure::AzureStatus>,
    /// Addresses in use and errors of their allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamStatus>,
    /// Network interfaces at Alibaba Cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alibaba_cloud: Option<alibaba::AlibabaStatus>,
    /// Fields unknown to this version.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}
