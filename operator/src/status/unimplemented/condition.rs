//! The condition that says so in the object itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::kinds::Unimplemented;
use super::{REASON, message};
use crate::status::notice::Reference;

/// Its type. Its status is `False`.
pub const CONDITION: &str = "Implemented";

/// Who owns it: a condition is an item of its own for server-side apply, so those of others stay as they are.
pub(super) const MANAGER: &str = "axoneme-operator-unimplemented";

/// Writes the condition of this very object, by its UID. It is fine if the object is gone.
pub(super) async fn write(
    client: &Client,
    kind: &Unimplemented,
    about: &Reference,
    since: Option<String>,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = match &about.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind.resource),
        None => Api::all_with(client.clone(), &kind.resource),
    };
    let since = match since {
        Some(since) => json!(since),
        None => json!(Time(jiff::Timestamp::now())),
    };
    let patch = Patch::Apply(patch(about, since));
    match api.patch_status(&about.name, &PatchParams::apply(MANAGER), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn patch(about: &Reference, since: Value) -> Value {
    json!({
        "apiVersion": about.api_version,
        "kind": about.kind,
        "metadata": {"name": about.name, "namespace": about.namespace, "uid": about.uid},
        "status": {"conditions": [{
            "type": CONDITION,
            "status": "False",
            "reason": REASON,
            "message": message(&about.kind),
            "lastTransitionTime": since,
        }]},
    })
}
