//! What is read of an object: who it is, and what its conditions say.

use std::borrow::Cow;

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::Deserialize;
use serde_json::Value;

use super::condition::CONDITION;
use super::{REASON, message};
use crate::status::notice::Reference;

/// An object of any kind without its spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Slim {
    pub(super) metadata: ObjectMeta,
    /// Of any shape: no object ends a watch.
    #[serde(default)]
    pub(super) status: Value,
}

impl Slim {
    /// How events name it.
    pub(super) fn reference(&self, resource: &ApiResource) -> Reference {
        let metadata = &self.metadata;
        Reference {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// Whether its conditions say that nothing is done with it, in this release's words.
    pub(super) fn says_so(&self, resource: &ApiResource) -> bool {
        self.condition()
            .is_some_and(|condition| condition["reason"] == REASON && condition["message"] == message(&resource.kind))
    }

    /// Whether its conditions say that nothing is done with it, in whichever words of ours.
    pub(super) fn is_marked(&self) -> bool {
        self.condition().is_some_and(|condition| condition["reason"] == REASON)
    }

    /// Since when its conditions say that nothing is done with it, in whichever words.
    pub(super) fn since(&self) -> Option<String> {
        self.condition()?["lastTransitionTime"].as_str().map(str::to_owned)
    }

    fn condition(&self) -> Option<&Value> {
        let mut conditions = self.status["conditions"].as_array()?.iter();
        conditions.find(|condition| condition["type"] == CONDITION && condition["status"] == "False")
    }
}

impl Resource for Slim {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.kind).into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.group).into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.version).into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.api_version).into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.plural).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
