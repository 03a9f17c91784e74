//! A document goes into Rust and comes out as it was: every known field, and those that only a later version knows.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use axoneme_crds::v2::{CiliumEndpoint, CiliumIdentity, CiliumNode};
use axoneme_crds::{v2, v2alpha1};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn samples(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(file);
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn sample(file: &str) -> Value {
    let [document] = samples(file).try_into().unwrap();
    document
}

/// YAML in, YAML out, compared as values.
fn through<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
    let object: T = serde_yaml::from_str(&serde_yaml::to_string(document).unwrap()).unwrap();
    serde_yaml::from_str(&serde_yaml::to_string(&object).unwrap()).unwrap()
}

/// Every document of a sample goes through its type, and together they have every field of the schema but those below
/// `elsewhere`.
fn all_of<T: DeserializeOwned + Serialize>(file: &str, elsewhere: &[&str]) {
    let documents = samples(file);
    for document in &documents {
        assert_eq!(through::<T>(document), *document, "{file}");
    }
    let mut unnamed = unnamed(&documents);
    let within = |path: &str, start: &str| path.strip_prefix(start).is_some_and(|rest| !rest.starts_with('s'));
    unnamed.retain(|path| !elsewhere.iter().any(|start| within(path, start)));
    assert_eq!(unnamed, BTreeSet::new(), "{file}: fields without a sample");
}

#[test]
fn what_programs_write() {
    all_of::<v2::CiliumEndpoint>("ciliumendpoint.yaml", &[]);
    all_of::<v2alpha1::CiliumEndpointSlice>("ciliumendpointslice.yaml", &[]);
    all_of::<v2::CiliumIdentity>("ciliumidentity.yaml", &[]);
    all_of::<v2::CiliumNode>("ciliumnode.yaml", &[]);
    all_of::<v2::CiliumBGPNodeConfig>("ciliumbgpnodeconfig.yaml", &[]);
}

#[test]
fn policies() {
    // `spec` is like any of `specs`. What is not supported any more may only be empty.
    let elsewhere = [
        ".spec",
        ".specs[].egress[].toRequires[]",
        ".specs[].egressDeny[].toRequires[]",
        ".specs[].ingress[].fromRequires[]",
        ".specs[].ingressDeny[].fromRequires[]",
    ];
    all_of::<v2::CiliumNetworkPolicy>("ciliumnetworkpolicy.yaml", &elsewhere);
    all_of::<v2::CiliumClusterwideNetworkPolicy>("ciliumclusterwidenetworkpolicy.yaml", &elsewhere);
    all_of::<v2::CiliumCIDRGroup>("ciliumcidrgroup.yaml", &[]);
    all_of::<v2::CiliumEgressGatewayPolicy>("ciliumegressgatewaypolicy.yaml", &[]);
    all_of::<v2::CiliumLocalRedirectPolicy>("ciliumlocalredirectpolicy.yaml", &[]);
    all_of::<v2alpha1::CiliumL2AnnouncementPolicy>("ciliuml2announcementpolicy.yaml", &[]);
}

#[test]
fn settings_and_pools() {
    all_of::<v2::CiliumBGPAdvertisement>("ciliumbgpadvertisement.yaml", &[]);
    all_of::<v2::CiliumBGPClusterConfig>("ciliumbgpclusterconfig.yaml", &[]);
    all_of::<v2::CiliumBGPNodeConfigOverride>("ciliumbgpnodeconfigoverride.yaml", &[]);
    all_of::<v2::CiliumBGPPeerConfig>("ciliumbgppeerconfig.yaml", &[]);
    all_of::<v2::CiliumClusterwideEnvoyConfig>("ciliumclusterwideenvoyconfig.yaml", &[]);
    all_of::<v2::CiliumEnvoyConfig>("ciliumenvoyconfig.yaml", &[]);
    all_of::<v2::CiliumLoadBalancerIPPool>("ciliumloadbalancerippool.yaml", &[]);
    all_of::<v2::CiliumNodeConfig>("ciliumnodeconfig.yaml", &[]);
    all_of::<v2alpha1::CiliumDatapathPlugin>("ciliumdatapathplugin.yaml", &[]);
    all_of::<v2alpha1::CiliumGatewayClassConfig>("ciliumgatewayclassconfig.yaml", &[]);
    all_of::<v2alpha1::CiliumPodIPPool>("ciliumpodippool.yaml", &[]);
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

/// Paths of the schema of the documents' kind and version that have no value in any of them.
fn unnamed(documents: &[Value]) -> BTreeSet<String> {
    let crd = axoneme_crds::all().into_iter().find(|crd| crd.spec.names.kind == documents[0]["kind"]).unwrap();
    let named = |version: &&CustomResourceDefinitionVersion| {
        documents[0]["apiVersion"] == format!("cilium.io/{}", version.name)
    };
    let version = crd.spec.versions.iter().find(named).unwrap();
    let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut missing = BTreeSet::new();
    check(schema, &documents.iter().collect::<Vec<_>>(), String::new(), &mut missing);
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
