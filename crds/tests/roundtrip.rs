//! A document goes into Rust and comes out as it was: every known field, and those that only a later version knows.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use axoneme_crds::v2::{CiliumEndpoint, CiliumIdentity, CiliumNode, CiliumNodeConfig};
use axoneme_crds::v2alpha1::CiliumPodIPPool;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn sample(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// YAML in, YAML out, compared as values.
fn through<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
    let object: T = serde_yaml::from_str(&serde_yaml::to_string(document).unwrap()).unwrap();
    serde_yaml::from_str(&serde_yaml::to_string(&object).unwrap()).unwrap()
}

#[test]
fn an_endpoint() {
    let document = sample("ciliumendpoint.yaml");
    assert_eq!(through::<CiliumEndpoint>(&document), document);
    assert_eq!(unnamed(&document, "ciliumendpoints"), BTreeSet::new(), "fields without a sample");
}

#[test]
fn an_identity() {
    let document = sample("ciliumidentity.yaml");
    assert_eq!(through::<CiliumIdentity>(&document), document);
    assert_eq!(unnamed(&document, "ciliumidentities"), BTreeSet::new(), "fields without a sample");
}

#[test]
fn a_node() {
    let document = sample("ciliumnode.yaml");
    assert_eq!(through::<CiliumNode>(&document), document);
    assert_eq!(unnamed(&document, "ciliumnodes"), BTreeSet::new(), "fields without a sample");
}

#[test]
fn settings_of_some_nodes() {
    let document = sample("ciliumnodeconfig.yaml");
    assert_eq!(through::<CiliumNodeConfig>(&document), document);
    assert_eq!(unnamed(&document, "ciliumnodeconfigs"), BTreeSet::new(), "fields without a sample");
}

#[test]
fn a_pool() {
    let document = sample("ciliumpodippool.yaml");
    assert_eq!(through::<CiliumPodIPPool>(&document), document);
    assert_eq!(unnamed(&document, "ciliumpodippools"), BTreeSet::new(), "fields without a sample");
}

#[test]
fn zero_values_and_empty_objects_as_other_writers_leave_them() {
    let document = sample("ciliumnode-zero.yaml");
    assert_eq!(through::<CiliumNode>(&document), document);
}

#[test]
fn fields_of_a_later_version() {
    fn mark(value: &mut Value, object: bool) {
        match value {
            Value::Object(fields) => {
                let map = !object;
                fields.values_mut().for_each(|field| mark(field, true));
                if !map {
                    fields.insert("from-the-future".into(), serde_json::json!({"answer": [42, null, {"a": "b"}]}));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| mark(item, true)),
            _ => {}
        }
    }
    // Maps of objects take the mark as an entry of its own, which is an object with unknown fields again. Maps of strings
    // and `metadata` have no place for it.
    let mut endpoint = sample("ciliumendpoint.yaml");
    mark(&mut endpoint["status"], true);
    strip(&mut endpoint, "identity-labels");
    assert_eq!(through::<CiliumEndpoint>(&endpoint), endpoint);

    let mut node = sample("ciliumnode.yaml");
    mark(&mut node["spec"], true);
    mark(&mut node["status"], true);
    for strings in [
        "security-group-tags",
        "subnet-tags",
        "exclude-interface-tags",
        "vswitch-tags",
        "static-ip-tags",
        "tags",
        "release-ips",
        "release-ipv6s",
    ] {
        strip(&mut node, strings);
    }
    assert_eq!(through::<CiliumNode>(&node), node);

    let mut identity = sample("ciliumidentity.yaml");
    identity["from-the-future"] = serde_json::json!({"answer": 42});
    assert_eq!(through::<CiliumIdentity>(&identity), identity);
}

/// Takes the mark out of every map of strings of that name.
fn strip(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(strings)) = fields.get_mut(name) {
                strings.remove("from-the-future");
            }
            fields.values_mut().for_each(|field| strip(field, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, name)),
        _ => {}
    }
}

/// Paths of the schema that have no value in the sample.
fn unnamed(document: &Value, plural: &str) -> BTreeSet<String> {
    let crd: CustomResourceDefinition =
        axoneme_crds::all().into_iter().find(|crd| crd.spec.names.plural == plural).unwrap();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.clone().unwrap();
    let mut missing = BTreeSet::new();
    check(&schema, &[document], String::new(), &mut missing);
    missing
}

fn check(schema: &JSONSchemaProps, values: &[&Value], path: String, missing: &mut BTreeSet<String>) {
    if values.is_empty() {
        missing.insert(path);
        return;
    }
    for (name, property) in schema.properties.iter().flatten() {
        let found: Vec<&Value> = values.iter().filter_map(|value| value.get(name)).collect();
        check(property, &found, format!("{path}.{name}"), missing);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        let found: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        check(items, &found, format!("{path}[]"), missing);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(entries)) = &schema.additional_properties {
        let found: Vec<&Value> =
            values.iter().filter_map(|value| value.as_object()).flat_map(|map| map.values()).collect();
        check(entries, &found, format!("{path}{{}}"), missing);
    }
}
