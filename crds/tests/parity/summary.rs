//! What a definition says but for its descriptions, as lines.
//!
//! The kind's names come first, then each version with its columns and its fields: `{}` is any key of a map, `[]` any item of
//! a list. What follows a path are the keywords of its schema in a fixed order; a pattern of more than 60 characters is told by
//! the beginning of its SHA-256, an expression by its text without the message. A field that has the same fields under it as
//! an earlier one names that one: `.spec.egressDeny[].icmps = .spec.egress[].icmps`.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Patterns up to this length are written out.
const PATTERN: usize = 60;

/// Keywords without a meaning for what is accepted, or that have their own place here.
const ELSEWHERE: [&str; 6] = ["description", "type", "required", "properties", "items", "additionalProperties"];

/// The lines of a definition.
pub fn summary(crd: &CustomResourceDefinition) -> String {
    let (spec, names) = (&crd.spec, &crd.spec.names);
    let list = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(",");
    let mut out = format!(
        "{} {} {}.{} singular={} list={} short={} categories={}\n",
        names.kind,
        spec.scope,
        names.plural,
        spec.group,
        names.singular.as_deref().unwrap_or_default(),
        names.list_kind.as_deref().unwrap_or_default(),
        list(&names.short_names),
        list(&names.categories),
    );
    for version in &spec.versions {
        write_version(&mut out, version);
    }
    out
}

fn write_version(out: &mut String, version: &CustomResourceDefinitionVersion) {
    let mut words = vec![format!("version {}", version.name)];
    let flags = [
        ("served", version.served),
        ("storage", version.storage),
        ("deprecated", version.deprecated == Some(true)),
        ("status", version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some())),
        ("scale", version.subresources.as_ref().is_some_and(|subresources| subresources.scale.is_some())),
    ];
    words.extend(flags.into_iter().filter(|flag| flag.1).map(|flag| flag.0.to_owned()));
    writeln!(out, "{}", words.join(" ")).unwrap();
    for column in version.additional_printer_columns.iter().flatten() {
        let priority = column.priority.unwrap_or_default();
        writeln!(out, "column '{}' {} {} priority={priority}", column.name, column.type_, column.json_path).unwrap();
    }
    let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    write_field(out, &mut BTreeMap::new(), schema, "");
}

/// Writes a field and what is under it. `seen` has the fields so far by what is under them.
fn write_field(out: &mut String, seen: &mut BTreeMap<String, String>, schema: &JSONSchemaProps, path: &str) {
    let name = if path.is_empty() { "." } else { path };
    let below = below(schema);
    let mut here = String::new();
    for (step, schema) in &below {
        write_field(&mut here, &mut BTreeMap::new(), schema, step);
    }
    let described = describe(schema);
    if here.lines().count() > 1 {
        let content = format!("{described}\n{here}");
        if let Some(earlier) = seen.get(&content) {
            writeln!(out, "{name} = {earlier}").unwrap();
            return;
        }
        seen.insert(content, name.to_owned());
    }
    writeln!(out, "{name} {described}").unwrap();
    for (step, schema) in &below {
        write_field(out, seen, schema, &format!("{path}{step}"));
    }
}

fn below(schema: &JSONSchemaProps) -> Vec<(String, &JSONSchemaProps)> {
    let mut below: Vec<_> =
        schema.properties.iter().flatten().map(|(name, schema)| (format!(".{name}"), schema)).collect();
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => below.push(("[]".into(), items.as_ref())),
        Some(JSONSchemaPropsOrArray::Schemas(_)) => panic!("lists of schemas are not structural"),
        None => {}
    }
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => below.push(("{}".into(), values.as_ref())),
        Some(JSONSchemaPropsOrBool::Bool(any)) => panic!("additionalProperties: {any}"),
        None => {}
    }
    below
}

/// Type and keywords. All of them: a keyword that nobody thought of is compared, too.
fn describe(schema: &JSONSchemaProps) -> String {
    let Value::Object(keywords) = serde_json::to_value(schema).unwrap() else { panic!("a schema is an object") };
    let mut words = vec![schema.type_.clone().unwrap_or_else(|| "any".into())];
    if let Some(required) = &schema.required {
        let mut required = required.clone();
        required.sort();
        words.push(format!("required={}", required.join(",")));
    }
    for (keyword, value) in &keywords {
        if !ELSEWHERE.contains(&keyword.as_str()) {
            words.push(format!("{keyword}={}", plain(keyword, value)));
        }
    }
    words.join(" ")
}

fn plain(keyword: &str, value: &Value) -> String {
    match (keyword, value) {
        ("enum", Value::Array(values)) => {
            let mut values: Vec<_> = values.iter().map(ToString::to_string).collect();
            values.sort();
            values.join("|")
        }
        ("pattern", Value::String(pattern)) if pattern.len() > PATTERN => {
            let digest = Sha256::digest(pattern.as_bytes());
            let start: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{start}")
        }
        ("oneOf" | "anyOf", Value::Array(branches)) if branches.iter().all(|branch| only_present(branch).is_some()) => {
            branches.iter().filter_map(only_present).collect::<Vec<_>>().join("|")
        }
        ("x-kubernetes-validations", Value::Array(rules)) => {
            let rule = |rule: &Value| {
                let mut rule = rule.clone();
                rule.as_object_mut().unwrap().remove("message");
                rule.to_string()
            };
            rules.iter().map(rule).collect::<Vec<_>>().join(" ")
        }
        (_, Value::Number(number)) => number.as_f64().unwrap().to_string(),
        (_, other) => other.to_string(),
    }
}

/// The field of a branch that says nothing but that it is there.
fn only_present(branch: &Value) -> Option<String> {
    let field = branch.get("required")?.as_array()?.first()?.as_str()?;
    let alone = serde_json::json!({"properties": {field: {}}, "required": [field]});
    (*branch == alone).then(|| field.to_owned())
}
