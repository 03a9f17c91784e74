//! The schemas have the fields of Cilium's schema version 1.33.9: `tests/fields/*.txt` has a line a field with its path,
//! type and constraints (`{}` is any key of a map, `[]` any item of a list).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

#[test]
fn no_field_is_missing_and_none_is_of_another_type() {
    for crd in axoneme_crds::all() {
        let file = format!("{}.txt", crd.spec.names.plural);
        let expected =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fields").join(&file)).unwrap();
        let [version] = crd.spec.versions.as_slice() else { panic!("{file}: one version expected") };
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let mut fields = Vec::new();
        collect(schema, String::new(), &mut fields);
        let (mut missing, mut added) = (Vec::new(), Vec::new());
        for line in expected.lines() {
            let (path, rest) = line.split_once(' ').unwrap();
            match fields.iter().find(|field| field.path == path) {
                None => missing.push(path),
                Some(field) => {
                    assert!(field.covers(rest), "{file}: {path} is '{}', expected '{rest}'", field.describe())
                }
            }
        }
        for field in &fields {
            if !expected.lines().any(|line| line.split_once(' ').unwrap().0 == field.path) {
                added.push(field.path.as_str());
            }
        }
        assert_eq!(missing, Vec::<&str>::new(), "{file}: missing");
        assert_eq!(added, Vec::<&str>::new(), "{file}: list the new fields here");
    }
}

struct Field<'a> {
    path: String,
    schema: &'a JSONSchemaProps,
}

impl Field<'_> {
    fn describe(&self) -> String {
        let schema = self.schema;
        let mut words = vec![schema.type_.clone().unwrap_or_default()];
        if let Some(format) = &schema.format {
            words.push(format!("format={format}"));
        }
        if let Some(minimum) = schema.minimum {
            words.push(format!("minimum={minimum}"));
        }
        if let Some(length) = schema.min_length {
            words.push(format!("minLength={length}"));
        }
        if let Some(values) = &schema.enum_ {
            let values: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
            words.push(format!("enum={}", values.join("|")));
        }
        if let Some(required) = &schema.required {
            let mut required = required.clone();
            required.sort();
            words.push(format!("required={}", required.join("|")));
        }
        words.join(" ")
    }

    /// Equal, except that bounds of a Rust integer may be told where Cilium's schema leaves them to its decoder.
    fn covers(&self, expected: &str) -> bool {
        let found = self.describe();
        found == expected || (expected == "integer" && found == "integer minimum=0")
    }
}

fn collect<'a>(schema: &'a JSONSchemaProps, path: String, fields: &mut Vec<Field<'a>>) {
    let below = |step: &str| format!("{path}{step}");
    for (name, property) in schema.properties.iter().flatten() {
        collect(property, below(&format!(".{name}")), fields);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(items, below("[]"), fields);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        collect(values, below("{}"), fields);
    }
    fields.push(Field { path: if path.is_empty() { ".".into() } else { path }, schema });
}
