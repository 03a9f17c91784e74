//! CiliumEndpointSlice: endpoints of a namespace, many in an object.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v2::EncryptionSpec;
use crate::v2::endpoint::{EndpointNetworking, NamedPort};

/// What stands at the root of a CiliumEndpointSlice.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2alpha1",
    kind = "CiliumEndpointSlice",
    plural = "ciliumendpointslices",
    singular = "ciliumendpointslice",
    shortname = "ces",
    category = "cilium",
    no_spec,
    schema = "disabled",
    derive = "JsonSchema",
    doc = "CiliumEndpointSlice reports what other nodes need to know of many endpoints of a namespace."
)]
pub struct EndpointSliceFields {
    /// Namespace of the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<CoreEndpoint>,
}

/// What other nodes need to know of an endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CoreEndpoint {
    /// Name of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// UID of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Its addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking: Option<EndpointNetworking>,
    /// Encryption of its node's traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// Its ports that have a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_ports: Option<Vec<NamedPort>>,
    /// Service account of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}
