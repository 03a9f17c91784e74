//! CiliumCIDRGroups.

use std::sync::Arc;

use axoneme_crds::v2;
use ipnet::IpNet;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, labels, text};
use super::metadata::slim;
use crate::object::{CidrGroup, Kind, Object};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumCIDRGroup)]
pub(super) struct Group {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "externalCIDRs")]
    external_cidrs: Vec<String>,
}

impl Watched for Group {
    const KIND: Kind = Kind::CiliumCIDRGroup;

    fn convert(mut self, context: &mut Context) -> Option<Object> {
        let labels = labels(&mut self.metadata);
        let mut cidr = |(i, text): (usize, &String)| {
            let cidr: IpNet = context.parse(&format!("spec.externalCIDRs[{i}]"), text, "CIDR")?;
            Some(cidr.trunc())
        };
        let cidrs = self.spec.external_cidrs.iter().enumerate().filter_map(&mut cidr).collect();
        Some(Object::CiliumCIDRGroup(Arc::new(CidrGroup { name: text(self.metadata.name.as_deref()), labels, cidrs })))
    }
}
