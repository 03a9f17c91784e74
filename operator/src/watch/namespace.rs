//! Namespaces.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, labels, text};
use super::metadata::{pool_choice, slim};
use crate::object::{self, Kind, Object};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::Namespace)]
pub(super) struct Namespace {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
}

impl Watched for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn convert(mut self, context: &mut Context) -> Option<Object> {
        let name = text(self.metadata.name.as_deref());
        let pools = pool_choice(&mut self.metadata.annotations.take().unwrap_or_default(), context);
        Some(Object::Namespace(Arc::new(object::Namespace { name, labels: labels(&mut self.metadata), pools })))
    }
}
