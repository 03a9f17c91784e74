//! CiliumIdentities.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_crds::v2;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{self, Kind, Object};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumIdentity)]
pub(super) struct Identity {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default, rename = "security-labels")]
    security_labels: Option<BTreeMap<String, String>>,
}

impl Watched for Identity {
    const KIND: Kind = Kind::CiliumIdentity;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let id =
            context.parse("metadata.name", self.metadata.name.as_deref().unwrap_or_default(), "numeric identity")?;
        Some(Object::CiliumIdentity(Arc::new(object::CiliumIdentity {
            id,
            labels: Arc::new(self.security_labels.unwrap_or_default().into_iter().collect()),
            uid: text(self.metadata.uid.as_deref()),
            resource_version: text(self.metadata.resource_version.as_deref()),
        })))
    }
}
