//! The condition that says so in the object itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::kinds::CustomKind;
use super::{REASON, message};
use crate::status::notice::Reference;

/// Its type. Its status is `False`.
pub const CONDITION: &str = "Implemented";

/// Who owns it: a condition is an item of its own for server-side apply, so those of others stay as they are.
pub(super) const MANAGER: &str = "axoneme-operator-unimplemented";

/// Writes the condition of this very object, by its UID. It is fine if the object is gone.
pub(super) async fn write(
    client: &Client,
    kind: &CustomKind,
    about: &Reference,
    since: Option<String>,
) -> Result<(), kube::Error> {
    let since = match since {
        Some(since) => json!(since),
        None => json!(Time(jiff::Timestamp::now())),
    };
    let condition = json!({
        "type": CONDITION,
        "status": "False",
        "reason": REASON,
        "message": message(&about.kind),
        "lastTransitionTime": since,
    });
    apply(client, kind, about, json!({"conditions": [condition]})).await
}

/// Takes it away again. What others have written stays: what is applied is all that its owner has to say. (Of an empty status the API
/// server makes null where nobody else has one, and refuses that.)
pub(super) async fn remove(client: &Client, kind: &CustomKind, about: &Reference) -> Result<(), kube::Error> {
    apply(client, kind, about, json!({"conditions": []})).await
}

async fn apply(client: &Client, kind: &CustomKind, about: &Reference, status: Value) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = match &about.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        None => Api::all_with(client.clone(), &kind.resource),
    };
    let patch = Patch::Apply(json!({
        "apiVersion": about.api_version,
        "kind": about.kind,
        "metadata": {"name": about.name, "namespace": about.namespace, "uid": about.uid},
        "status": status,
    }));
    match api.patch_status(&about.name, &PatchParams::apply(MANAGER), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
