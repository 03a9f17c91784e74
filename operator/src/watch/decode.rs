//! One object from its JSON, as a watch would deliver it: for what reads manifests instead of watching.

use serde_json::Value;

use super::context::Context;
use super::guard::Guarded;
use super::{Problem, Watched};
use super::{
    cidr_group, cilium_identity, cilium_node, cilium_node_config, cilium_policy, cluster_network_policy, config_map,
    endpoint_slice, namespace, network_policy, node, pod, pod_ip_pool, service,
};
use crate::object::Object;

/// Why a manifest is no object.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No kind that is watched.
    #[error("kind {0:?} is not watched")]
    Kind(String),
    /// Not of the shape that its kind has.
    #[error("{field}: {error}")]
    Shape {
        /// Path of the field where decoding ended.
        field: String,
        /// What was wrong there.
        error: String,
    },
    /// Not an object at all.
    #[error("not an object")]
    Json(#[from] serde_json::Error),
}

/// The object that `manifest` describes, if it has a meaning, and what cannot be understood of it.
///
/// # Errors
/// When it is of no watched kind, or not of its kind's shape.
pub fn decode(manifest: &Value) -> Result<(Option<Object>, Vec<Problem>), DecodeError> {
    let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "Namespace" => convert::<namespace::Namespace>(manifest),
        "Node" => convert::<node::Node>(manifest),
        "Pod" => convert::<pod::Pod>(manifest),
        "Service" => convert::<service::Service>(manifest),
        "EndpointSlice" => convert::<endpoint_slice::Slice>(manifest),
        "NetworkPolicy" => convert::<network_policy::Policy>(manifest),
        "CiliumNetworkPolicy" => convert::<cilium_policy::Policy>(manifest),
        "CiliumClusterwideNetworkPolicy" => convert::<cilium_policy::ClusterwidePolicy>(manifest),
        "ClusterNetworkPolicy" => convert::<cluster_network_policy::Policy>(manifest),
        "CiliumCIDRGroup" => convert::<cidr_group::Group>(manifest),
        "CiliumIdentity" => convert::<cilium_identity::Identity>(manifest),
        "CiliumNode" => convert::<cilium_node::Ledger>(manifest),
        "CiliumPodIPPool" => convert::<pod_ip_pool::Pool>(manifest),
        "CiliumNodeConfig" => convert::<cilium_node_config::NodeConfig>(manifest),
        "ConfigMap" => convert::<config_map::ConfigMap>(manifest),
        other => Err(DecodeError::Kind(other.to_owned())),
    }
}

fn convert<K: Watched>(manifest: &Value) -> Result<(Option<Object>, Vec<Problem>), DecodeError> {
    match serde_json::from_str::<Guarded<K>>(&manifest.to_string())? {
        Guarded::Valid(object) => {
            let mut context = Context::default();
            let object = object.convert(&mut context);
            Ok((object, context.take_problems()))
        }
        Guarded::Invalid(invalid) => Err(DecodeError::Shape { field: invalid.field, error: invalid.error }),
    }
}
