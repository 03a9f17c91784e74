//! CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies, as written: what is wrong in them the compiler knows best.

use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2;
use axoneme_crds::v2::policy::{DefaultDeny, Rule};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::Watched;
use super::context::{Context, text};
use super::metadata::{audits, slim};
use crate::object::{CiliumPolicy, CiliumRule, Kind, Object, VALID, Validity};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumNetworkPolicy)]
pub(super) struct Policy {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2::CiliumClusterwideNetworkPolicy)]
pub(super) struct ClusterwidePolicy {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(flatten)]
    rest: Rest,
}

/// Rules are read one by one, so that one that cannot be read leaves the others as they are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rest {
    spec: Option<Value>,
    specs: Option<Vec<Value>>,
    status: Value,
}

impl Watched for Policy {
    const KIND: Kind = Kind::CiliumNetworkPolicy;

    fn convert(self, context: &mut Context) -> Option<Object> {
        Some(Object::CiliumNetworkPolicy(Arc::new(policy(&self.metadata, self.rest, context))))
    }

    fn stand_in(metadata: &ObjectMeta, context: &mut Context) -> Option<Object> {
        Some(Object::CiliumNetworkPolicy(Arc::new(closed(metadata, context)?)))
    }
}

impl Watched for ClusterwidePolicy {
    const KIND: Kind = Kind::CiliumClusterwideNetworkPolicy;

    fn convert(self, context: &mut Context) -> Option<Object> {
        Some(Object::CiliumClusterwideNetworkPolicy(Arc::new(policy(&self.metadata, self.rest, context))))
    }

    fn stand_in(metadata: &ObjectMeta, context: &mut Context) -> Option<Object> {
        Some(Object::CiliumClusterwideNetworkPolicy(Arc::new(closed(metadata, context)?)))
    }
}

fn policy(metadata: &ObjectMeta, rest: Rest, context: &mut Context) -> CiliumPolicy {
    let one = rest.spec.into_iter().map(|rule| ("spec".to_owned(), rule));
    let several = rest.specs.into_iter().flatten().enumerate().map(|(i, rule)| (format!("specs[{i}]"), rule));
    CiliumPolicy {
        name: context.name(metadata),
        resource_version: text(metadata.resource_version.as_deref()),
        audits: audits(metadata, context),
        rules: one.chain(several).map(|(field, value)| rule(&field, &value)).collect(),
        valid: validity(&rest.status),
    }
}

fn rule(field: &str, value: &Value) -> CiliumRule {
    let selector = |name: &str| -> Option<LabelSelector> { LabelSelector::deserialize(value.get(name)?).ok() };
    let read: Result<Rule, _> = serde_path_to_error::deserialize(value);
    let (rule, unreadable) = match read {
        Ok(rule) => (rule, None),
        Err(error) => {
            let path = format!("{field}.{}", error.path());
            let message = format!("{}: all that the rule selects is isolated", error.into_inner());
            (isolating(selector("endpointSelector"), selector("nodeSelector")), Some((path.into(), message.into())))
        }
    };
    CiliumRule { field: field.into(), rule, unreadable }
}

/// A rule of which at most the selectors are known: an error must not open anything.
fn isolating(endpoints: Option<LabelSelector>, nodes: Option<LabelSelector>) -> Rule {
    Rule {
        endpoint_selector: endpoints.or_else(|| nodes.is_none().then(LabelSelector::default)),
        node_selector: nodes,
        enable_default_deny: Some(DefaultDeny { ingress: Some(true), egress: Some(true) }),
        ..Rule::default()
    }
}

/// Stands in for a policy of which nothing can be read.
fn closed(metadata: &ObjectMeta, context: &mut Context) -> Option<CiliumPolicy> {
    metadata.name.as_ref()?;
    let message = "cannot be read, so all pods that it could select are isolated in both directions";
    let unreadable = Some(("spec".into(), message.into()));
    let rule = CiliumRule { field: "spec".into(), rule: isolating(None, None), unreadable };
    Some(CiliumPolicy {
        name: context.name(metadata),
        resource_version: text(metadata.resource_version.as_deref()),
        audits: audits(metadata, context),
        rules: [rule].into(),
        valid: None,
    })
}

fn validity(status: &Value) -> Option<Validity> {
    let condition = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == VALID)?;
    let message = condition["message"].as_str().unwrap_or_default().into();
    Some(Validity { valid: condition["status"] == "True", message })
}
