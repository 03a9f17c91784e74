//! Scenarios: Kubernetes YAML in, rows out. Each file of this folder is one; see README.md there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod render;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use axoneme_admin::explain::Flow;
use serde::Deserialize;
use serde_json::Value;
use world::{Cluster, World};

/// A document that is not a Kubernetes object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Step {
    /// What the scenario is about.
    Scenario(String),
    /// How the cluster is configured; before everything else.
    Cluster(Cluster),
    /// `Kind namespace/name` or `Kind name`, any number of them.
    Delete(Vec<String>),
    /// A pod's or namespace's labels are these now.
    Relabel { object: String, labels: serde_json::Map<String, Value> },
    /// From now on the API server takes so many new identities and no more.
    Identities(u32),
    /// The node reports that the pod is attached.
    Attach(Attach),
    /// The node reports that the pod's last attachment is gone.
    Detach(String),
    /// All nodes but these acknowledge everything.
    Acknowledge { except: Vec<String> },
    /// So many seconds pass.
    Wait(u64),
    /// What is said of a flow.
    Explain {
        #[serde(flatten)]
        flow: Flow,
        says: String,
    },
    /// These kinds of lines are exactly these. The kind `changes` is what was added and removed since the last expectation.
    Expect { of: Vec<String>, rows: String },
}

/// An attachment, with the addresses that the operator gave or with others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Attach {
    Given(String),
    Delegated { pod: String, addresses: Vec<IpAddr> },
}

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario");
    let only = std::env::var("SCENARIO").ok();
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failed = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        match run(&fs::read_to_string(file).unwrap()) {
            Ok(steps) => println!("{name}: {steps} expectations hold"),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n\n"));
}

/// Plays one file; gives back how many expectations held.
fn run(text: &str) -> Result<usize, String> {
    let mut world = World::new(Cluster::default());
    let mut problems_expected = false;
    let mut about = String::new();
    let mut held = 0;
    let mut before = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| error.to_string())?;
        if value.get("kind").is_some() {
            world.apply(value);
            continue;
        }
        let step: Step = Step::deserialize(&value).map_err(|error| format!("{error}: {value}"))?;
        match step {
            Step::Scenario(text) => about = text,
            Step::Cluster(cluster) => world = World::new(cluster),
            Step::Delete(objects) => objects.iter().for_each(|object| world.delete(object)),
            Step::Relabel { object, labels } => world.relabel(&object, labels),
            Step::Identities(left) => world.identities(left),
            Step::Attach(Attach::Given(pod)) => world.attach(&pod, None),
            Step::Attach(Attach::Delegated { pod, addresses }) => world.attach(&pod, Some(addresses)),
            Step::Detach(pod) => world.detach(&pod),
            Step::Acknowledge { except } => world.acknowledge(&except),
            Step::Wait(seconds) => world.wait(seconds),
            Step::Explain { flow, says } => {
                let (wanted, got) = (says.trim_end(), world.explain(&flow));
                if got.trim_end() != wanted {
                    return Err(format!("{about}\n  {flow:?}, wanted\n{wanted}\n  got\n{got}"));
                }
                held += 1;
            }
            Step::Expect { of, rows } => {
                let now = world.lines();
                problems_expected |= of.iter().any(|of| of == "problem");
                let wanted: Vec<&str> = rows.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                let kind = |line: &str| line.split([' ', '/']).next().unwrap_or_default().to_owned();
                let mut got: Vec<String> = now.iter().filter(|line| of.contains(&kind(line))).cloned().collect();
                if of.iter().any(|of| of == "changes") {
                    // Who was told of a pod is of interest where a scenario is about that.
                    let row = |line: &&String| !line.starts_with("told ");
                    got.extend(before.difference(&now).filter(row).map(|line| format!("- {line}")));
                    got.extend(now.difference(&before).filter(row).map(|line| format!("+ {line}")));
                }
                if got != wanted {
                    let list = |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
                    let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
                    return Err(format!(
                        "{about}\n  expectation {}, wanted\n{}  got\n{}",
                        held + 1,
                        list(&wanted),
                        list(&got)
                    ));
                }
                before = now;
                held += 1;
            }
        }
    }
    if !problems_expected && let Some(problem) = world.lines().iter().find(|line| line.starts_with("problem ")) {
        return Err(format!("{about}\n  {problem}"));
    }
    Ok(held)
}
