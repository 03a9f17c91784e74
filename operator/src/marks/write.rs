//! Writing taint and condition.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::info;

/// Type of the condition.
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
/// Its reason when the network is there: Cilium's, for those who look for it.
const REASON: &str = "CiliumIsUp";

/// Whether a condition is one that is written here.
pub(super) fn is_said(condition: &NodeCondition) -> bool {
    condition.type_ == NETWORK_UNAVAILABLE && condition.reason.as_deref() == Some(REASON)
}

/// What of a node is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    /// The version that was judged: a list of taints is replaced as a whole.
    pub(super) version: String,
    /// All taints; none: they stay.
    pub(super) taints: Option<Vec<Taint>>,
    /// The network is there.
    pub(super) available: bool,
}

impl Write {
    pub(super) async fn send(self, client: &Client, node: &str) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(client.clone());
        if let Some(taints) = self.taints {
            set_taints(&api, node, &self.version, &taints).await?;
            info!(node, ?taints, "the node's taints were written");
        }
        if !self.available {
            return Ok(());
        }
        let now = Timestamp::now().to_string();
        let condition = json!({
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": REASON,
            "message": "Axoneme is running on this node",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        });
        set_condition(&api, node, &condition).await
    }
}

/// Conditions are merged by their type, so others' are not touched.
async fn set_condition(api: &Api<Node>, node: &str, condition: &Value) -> Result<(), kube::Error> {
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    api.patch_status(node, &PatchParams::default(), &patch).await.map(drop)
}

async fn set_taints(api: &Api<Node>, node: &str, version: &str, taints: &[Taint]) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}));
    api.patch(node, &PatchParams::default(), &patch).await.map(drop)
}

/// Takes off a node what an operator has said of it: nothing gives it a network any more.
///
/// # Errors
/// What the API server says; a conflict where somebody else has written meanwhile.
pub async fn unmark(client: &Client, node: &Node, taint: &str) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let name = node.metadata.name.clone().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let (ours, others): (Vec<Taint>, Vec<Taint>) = taints.cloned().partition(|found| found.key == taint);
    if !ours.is_empty() {
        set_taints(&api, &name, node.metadata.resource_version.as_deref().unwrap_or_default(), &others).await?;
    }
    if node.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(is_said) {
        set_condition(&api, &name, &json!({"type": NETWORK_UNAVAILABLE, "$patch": "delete"})).await?;
    }
    Ok(())
}
