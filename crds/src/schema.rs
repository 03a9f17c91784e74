//! From Rust types to the schemas that an API server takes.
//!
//! What `schemars` makes of a type differs from a structural schema in few and regular ways; [`Structural`] takes out all of
//! them at once. What a type cannot say stands at its field: `extend` for a keyword, one of the functions here for what
//! takes more than one, or a type of [`checked`](self::checked) in `with` for a string of which only the schema is stricter.
//!
//! Integers: `i32` and `i64` have their format in the schema, unsigned ones are plain integers. A bound is in the schema only
//! where the field says so: by `range`, and by [`Count`](checked::Count) where it is zero.

pub(crate) mod checked;
pub(crate) mod patterns;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// The schema of a resource, from the type of its root. Whether `metadata` is required is a matter of taste: API servers
/// require it anyhow.
///
/// # Panics
/// Panics if the type's schema is none of an API server's, which tests exclude for every type here.
pub(crate) fn of<K: JsonSchema>() -> JSONSchemaProps {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.with_transform(Structural).into_generator().into_root_schema_for::<K>();
    schema.insert("type".into(), "object".into());
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties
            .insert("apiVersion".into(), json!({"type": "string", "description": "Version of the object's form."}));
        properties.insert("kind".into(), json!({"type": "string", "description": "Kind of the object."}));
        properties.insert("metadata".into(), json!({"type": "object"}));
    }
    #[allow(clippy::expect_used)] // depends on nothing but the types
    serde_json::from_value(schema.to_value()).expect("a type's schema is one of an API server")
}

/// What has to be taken out of every schema.
#[derive(Clone, Debug)]
struct Structural;

impl Transform for Structural {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(schema) = schema.as_object_mut() else { return };
        schema.remove("title");
        not_null(schema);
        plain_unsigned(schema);
    }
}

/// An absent value is absent, never null: an API server would store it.
fn not_null(schema: &mut Map<String, Value>) {
    let null = json!({"type": "null"});
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf")
        && branches.len() == 2
        && branches[1] == null
    {
        let value = branches.swap_remove(0);
        schema.remove("anyOf");
        for (key, value) in value.as_object().into_iter().flatten() {
            schema.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// Kubernetes knows no format of unsigned integers, and Cilium's decoders check what follows from a type.
fn plain_unsigned(schema: &mut Map<String, Value>) {
    let Some(bits) = schema.get("format").and_then(Value::as_str).and_then(|format| format.strip_prefix("uint")) else {
        return;
    };
    let most = match bits {
        "8" => u8::MAX.into(),
        "16" => u16::MAX.into(),
        _ => u32::MAX.into(),
    };
    let implied =
        |schema: &Map<String, Value>, key: &str, value: u64| schema.get(key).and_then(Value::as_u64) == Some(value);
    if implied(schema, "minimum", 0) {
        schema.remove("minimum");
    }
    if implied(schema, "maximum", most) {
        schema.remove("maximum");
    }
    schema.remove("format");
}

/// Exactly one of these fields is there.
pub(crate) fn exactly_one(fields: &'static [&'static str]) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("oneOf".into(), presence(fields));
    }
}

/// At least one of these fields is there.
fn at_least_one(fields: &'static [&'static str]) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("anyOf".into(), presence(fields));
    }
}

/// Exactly one of the first fields is there, and at least one of the second.
pub(crate) fn exactly_one_and_at_least_one(
    one: &'static [&'static str],
    some: &'static [&'static str],
) -> impl Transform {
    move |schema: &mut Schema| {
        exactly_one(one).transform(schema);
        at_least_one(some).transform(schema);
    }
}

fn presence(fields: &[&str]) -> Value {
    fields.iter().map(|field| json!({"properties": {*field: {}}, "required": [field]})).collect()
}

/// What the API server evaluates for every object that is written, with the message of what does not hold.
pub(crate) fn rules(rules: &'static [(&'static str, &'static str)]) -> impl Transform {
    move |schema: &mut Schema| {
        let rules: Value = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect();
        schema.insert("x-kubernetes-validations".into(), rules);
    }
}

/// The field is never changed.
pub(crate) fn immutable(schema: &mut Schema) {
    rules(&[("self == oldSelf", "cannot be changed: make a new object")]).transform(schema);
}

/// A list whose items are known by this field.
pub(crate) fn keyed(key: &'static str) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("x-kubernetes-list-type".into(), "map".into());
        schema.insert("x-kubernetes-list-map-keys".into(), json!([key]));
    }
}

/// A list that is replaced as a whole.
pub(crate) fn atomic_list(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".into(), "atomic".into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Fields {
        metadata: String,
        optional: Option<String>,
        one: Option<One>,
        byte: Option<u8>,
        #[schemars(range(min = 1, max = 100))]
        bounded: u8,
        wide: i64,
        #[schemars(with = "Option<checked::Count>")]
        count: Option<u32>,
    }

    #[derive(JsonSchema)]
    #[schemars(transform = exactly_one(&["a", "b"]))]
    #[allow(dead_code)]
    struct One {
        a: Option<String>,
        b: Option<String>,
    }

    #[test]
    fn a_schema_is_what_an_api_server_takes() {
        let found = serde_json::to_value(of::<Fields>()).unwrap();
        let properties = &found["properties"];
        assert_eq!(properties["metadata"], json!({"type": "object"}));
        assert_eq!(properties["optional"], json!({"type": "string"}));
        assert_eq!(properties["byte"], json!({"type": "integer"}));
        assert_eq!(properties["bounded"], json!({"type": "integer", "minimum": 1.0, "maximum": 100.0}));
        assert_eq!(properties["wide"], json!({"type": "integer", "format": "int64"}));
        assert_eq!(properties["count"], json!({"type": "integer", "minimum": 0.0}));
        assert_eq!(
            properties["one"],
            json!({
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [
                    {"properties": {"a": {}}, "required": ["a"]},
                    {"properties": {"b": {}}, "required": ["b"]},
                ],
            })
        );
    }
}
