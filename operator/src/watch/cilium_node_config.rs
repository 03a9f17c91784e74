//! CiliumNodeConfigs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_crds::v2;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{self, Kind, Object, Operator, Override, Requirement, Selector};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumNodeConfig)]
pub(super) struct NodeConfig {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    defaults: BTreeMap<String, String>,
    node_selector: v2::NodeSelector,
}

impl Watched for NodeConfig {
    const KIND: Kind = Kind::CiliumNodeConfig;

    /// What makes no sense is told and left out; the rest counts.
    fn convert(self, context: &mut Context) -> Option<Object> {
        let mut overrides = Vec::new();
        for (name, value) in &self.spec.defaults {
            match Override::parse(name, value) {
                Ok(one) => overrides.push(one),
                Err(problem) => context.problem(format!("spec.defaults[{name}]"), problem),
            }
        }
        let v2::NodeSelector { match_labels, match_expressions, .. } = self.spec.node_selector;
        let requirements = match_expressions.into_iter().map(|one| Requirement {
            key: one.key.into(),
            operator: Operator::from_kubernetes(&one.operator),
            values: one.values.into_iter().map(Box::from).collect(),
        });
        let selector = Selector::new(match_labels, requirements);
        for requirement in &selector.requirements {
            if let Operator::Unknown(operator) = &requirement.operator {
                context.problem("spec.nodeSelector", format!("{operator:?} is no operator: no node is selected"));
            }
        }
        Some(Object::CiliumNodeConfig(Arc::new(object::NodeConfig {
            name: context.name(&self.metadata),
            selector,
            overrides: overrides.into(),
            resource_version: text(self.metadata.resource_version.as_deref()),
        })))
    }
}
