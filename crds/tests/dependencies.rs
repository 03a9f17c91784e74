//! Dependencies point one way: the operator never sees aya, the node never sees kube, and what both share sees neither.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use serde_json::Value;

/// A package, what it must never be built with, and why.
const RULES: &[(&str, &[&str], &str)] = &[
    ("axoneme-operator", &["aya", "axoneme-bpf", "axoneme-node"], "the operator knows no kernel"),
    (
        "axoneme-node",
        &["kube", "kube-client", "kube-core", "kube-runtime", "k8s-openapi", "axoneme-crds", "axoneme-operator"],
        "a node does not talk to the API server",
    ),
    (
        "axoneme-proto",
        &["aya", "axoneme-bpf", "kube", "k8s-openapi", "axoneme-crds"],
        "operator and node share nothing else",
    ),
    (
        "axoneme-bpf",
        &["kube", "k8s-openapi", "axoneme-crds", "axoneme-proto"],
        "the kernel's border knows the kernel only",
    ),
    ("axoneme-crds", &["aya", "axoneme-bpf", "axoneme-proto", "axoneme-operator", "axoneme-node"], "types know nobody"),
    (
        "axoneme-admin",
        &["aya", "axoneme-bpf", "kube", "k8s-openapi", "axoneme-crds", "axoneme-proto"],
        "what is told for people is nobody's inside",
    ),
    // It compiles policies as the operator does, with the operator's own compiler.
    ("axoneme-cli", &["aya", "axoneme-bpf", "axoneme-node"], "a command line knows no kernel"),
];

#[test]
fn dependencies_point_one_way() {
    let graph = Graph::load();
    let mut broken = Vec::new();
    for (package, forbidden, why) in RULES {
        let paths = graph.built_with(package);
        for name in *forbidden {
            if let Some(path) = paths.get(*name) {
                broken.push(format!("{package} is built with {name} ({}): {why}", path.join(" -> ")));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_member_of_the_workspace_has_a_rule_or_is_the_test_harness() {
    let ruled: BTreeSet<&str> = RULES.iter().map(|rule| rule.0).chain(["axoneme-e2e"]).collect();
    let members: BTreeSet<String> = Graph::load().members;
    assert_eq!(members.iter().map(String::as_str).collect::<BTreeSet<_>>(), ruled);
}

/// Packages and what they are linked with on Linux. Dependencies of tests and of build scripts do not count: they are not
/// in the result.
struct Graph {
    members: BTreeSet<String>,
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn load() -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version=1",
                "--offline",
                "--locked",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> =
            metadata["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let members = metadata["workspace_members"].as_array().unwrap();
        let members = members.iter().map(|id| names[id.as_str().unwrap()].clone()).collect();
        let normal =
            |dependency: &&Value| dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
        let edges = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| {
            let dependencies = node["deps"].as_array().unwrap().iter().filter(normal);
            (text(&node["id"]), dependencies.map(|dependency| text(&dependency["pkg"])).collect())
        });
        let edges = edges.collect();
        Self { members, names, edges }
    }

    /// All packages that `name` is linked with, by name, with the way there.
    fn built_with(&self, name: &str) -> BTreeMap<&str, Vec<&str>> {
        let start =
            self.names.iter().find(|(_, found)| *found == name).unwrap_or_else(|| panic!("no package {name}")).0;
        let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut queue = VecDeque::from([(start, vec![self.names[start].as_str()])]);
        let mut seen = BTreeSet::from([start]);
        while let Some((id, path)) = queue.pop_front() {
            for next in &self.edges[id] {
                if seen.insert(next) {
                    let mut path = path.clone();
                    path.push(&self.names[next]);
                    paths.entry(&self.names[next]).or_insert_with(|| path.clone());
                    queue.push_back((next, path));
                }
            }
        }
        paths
    }
}
