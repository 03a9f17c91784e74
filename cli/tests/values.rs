//! `docs/helm-values.md` names every value that the chart and Cilium's do not have in common, and no other.
//!
//! `charts/tests/cilium-values.txt` has a line a value of Cilium 1.20: its path and, where the first part of the path exists here
//! too, its default as JSON.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_yaml::Value;

/// Values whose form is free: what is in them is no value of its own.
const FREE: [&str; 8] = [
    "resources",
    "nodeSelector",
    "affinity",
    "operator.resources",
    "operator.nodeSelector",
    "operator.affinity",
    "securityContext.capabilities",
    "ipMasqAgent.config",
];

#[test]
fn every_difference_to_ciliums_values_is_told() {
    let (ours, theirs) = (ours(), theirs());
    let page = fs::read_to_string(file("docs/helm-values.md")).unwrap();
    let [differ, only, missing] = ["## Same name", "## Only here", "## Not here"].map(|title| names(&page, title));
    let has = |all: &BTreeMap<String, Value>, name: &str| all.keys().any(|path| is_in(path, name));
    let mut wrong = Vec::new();
    for (path, default) in &ours {
        let same = theirs.iter().find(|(theirs, _)| is_in(theirs, path));
        match same {
            None if !only.contains(path) => wrong.push(format!("{path} is not listed as only here")),
            Some((_, theirs)) if !differ.contains(path) && theirs != default => {
                wrong.push(format!("{path} is {default:?} here and {theirs:?} there, which is not listed"));
            }
            _ => {}
        }
    }
    for path in theirs.keys() {
        let known = ours.keys().any(|ours| is_in(path, ours)) || missing.iter().any(|name| is_in(path, name));
        if !known {
            wrong.push(format!("Cilium's {path} is neither here nor listed"));
        }
    }
    for name in &differ {
        let default =
            |all: &BTreeMap<String, Value>| all.iter().find(|(path, _)| is_in(path, name)).map(|(_, v)| v.clone());
        if !has(&ours, name) || !has(&theirs, name) {
            wrong.push(format!("{name} is listed as differing, and not in both"));
        } else if default(&ours) == default(&theirs) && !FREE.contains(&name.as_str()) {
            wrong.push(format!("{name} is listed as differing, and does not"));
        }
    }
    wrong.extend(
        only.iter().filter(|name| has(&theirs, name) || !has(&ours, name)).map(|name| format!("{name}: only here?")),
    );
    wrong.extend(
        missing.iter().filter(|name| has(&ours, name)).map(|name| format!("{name} is listed as missing, and here")),
    );
    wrong.extend(
        missing.iter().filter(|name| !has(&theirs, name)).map(|name| format!("{name} is no value of Cilium's")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn settings_of_single_nodes_are_all_told() {
    let page = fs::read_to_string(file("docs/helm-values.md")).unwrap();
    assert_eq!(names(&page, "## Settings of single nodes"), axoneme_operator::object::Override::NAMES);
}

/// Whether a path is a value or below it.
fn is_in(path: &str, value: &str) -> bool {
    path.strip_prefix(value).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The chart's values by path.
fn ours() -> BTreeMap<String, Value> {
    fn collect(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Mapping(fields) if !fields.is_empty() && !FREE.contains(&path) => {
                for (name, value) in fields {
                    let name = name.as_str().unwrap();
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    collect(value, &path, found);
                }
            }
            value => drop(found.insert(path.to_owned(), value.clone())),
        }
    }
    let mut found = BTreeMap::new();
    let values = fs::read_to_string(file("charts/axoneme/values.yaml")).unwrap();
    collect(&serde_yaml::from_str(&values).unwrap(), "", &mut found);
    found
}

fn theirs() -> BTreeMap<String, Value> {
    let lines = fs::read_to_string(file("charts/tests/cilium-values.txt")).unwrap();
    let parse = |line: &str| {
        let (path, default) = line.split_once(' ').unwrap_or((line, "null"));
        (path.to_owned(), serde_yaml::from_str(default).unwrap())
    };
    lines.lines().map(parse).collect()
}

/// What stands in backquotes in the first column of a section's table.
fn names(page: &str, title: &str) -> Vec<String> {
    let section = page.split_once(title).unwrap_or_else(|| panic!("{title} is missing")).1;
    let section = section.split("\n## ").next().unwrap();
    let first = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    first.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}
