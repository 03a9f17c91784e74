//! The ConfigMap `ip-masq-agent`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{Kind, MasqueradeAgent, Object};

/// Its name, in the namespace of the operator.
pub(super) const NAME: &str = "ip-masq-agent";

/// The key of its data.
const KEY: &str = "config";

/// Keys of other implementations, which mean nothing here: changes are followed at once, and no list is too long.
const OTHERS: [&str; 2] = ["resyncInterval", "cidrLimit"];

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::ConfigMap)]
pub(super) struct ConfigMap {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl Watched for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;

    /// What makes no sense is told and left out; without any CIDR that does, the usual ones count.
    fn convert(self, context: &mut Context) -> Option<Object> {
        let content = self.data.as_ref().and_then(|data| data.get(KEY)).map(String::as_str).unwrap_or_default();
        let mut fields = fields(content, context);
        let mut flag = |key: &str, context: &mut Context| match fields.remove(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => value,
            Some(other) => {
                context.problem(field(key), format!("{other} is neither true nor false: taken as false"));
                false
            }
        };
        let link_local = flag("masqLinkLocal", context);
        let link_local_ipv6 = flag("masqLinkLocalIPv6", context);
        let cidrs = cidrs(fields.remove("nonMasqueradeCIDRs"), context);
        for key in fields.keys().filter(|key| !OTHERS.contains(&key.as_str())) {
            context.problem(field(key), "is no key of this configuration");
        }
        Some(Object::ConfigMap(Arc::new(MasqueradeAgent {
            name: context.name(&self.metadata),
            cidrs: cidrs.into(),
            link_local,
            link_local_ipv6,
            resource_version: text(self.metadata.resource_version.as_deref()),
        })))
    }
}

fn field(key: &str) -> String {
    format!("data.{KEY}: {key}")
}

/// YAML, and so JSON.
fn fields(content: &str, context: &mut Context) -> Map<String, Value> {
    match serde_yaml::from_str::<Value>(content) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) => Map::new(),
        Ok(_) => {
            context.problem(format!("data.{KEY}"), "is no map of settings: taken as empty");
            Map::new()
        }
        Err(error) => {
            context.problem(format!("data.{KEY}"), format!("is neither YAML nor JSON ({error}): taken as empty"));
            Map::new()
        }
    }
}

fn cidrs(list: Option<Value>, context: &mut Context) -> Vec<IpNet> {
    let list = match list {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(other) => {
            context.problem(field("nonMasqueradeCIDRs"), format!("{other} is no list: taken as empty"));
            Vec::new()
        }
    };
    let mut cidrs = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        match entry.as_str().and_then(|text| text.parse::<IpNet>().ok()) {
            Some(cidr) => cidrs.push(cidr.trunc()),
            None => {
                context.problem(field(&format!("nonMasqueradeCIDRs[{i}]")), format!("{entry} is no CIDR: left out"))
            }
        }
    }
    cidrs.sort_unstable();
    cidrs.dedup();
    cidrs
}
