//! The definitions say what Cilium's say, but for descriptions and messages.
//!
//! `upstream/` has a summary of each of Cilium's definitions (see [`summary`]), recorded from the source that `upstream/SOURCE`
//! names. To record another one: `UPSTREAM_CRDS=<its pkg/k8s/apis/cilium.io/client/crds> cargo test -p axoneme-crds --test
//! parity -- --ignored`, and name it in `SOURCE`.

#![allow(clippy::unwrap_used)] // helpers of tests

mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use summary::summary;

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/upstream")
}

/// Summaries by the plural name of their kind.
fn summaries() -> BTreeMap<String, String> {
    let files = fs::read_dir(recorded()).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    texts.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_kind_of_ciliums_is_here_and_no_other() {
    let here: BTreeSet<String> = axoneme_crds::all().into_iter().map(|crd| crd.spec.names.plural).collect();
    assert_eq!(here, summaries().into_keys().collect());
    assert_eq!(here.len(), 22);
}

#[test]
fn the_definitions_differ_in_descriptions_only() {
    let summaries = summaries();
    let mut differences = Vec::new();
    for crd in axoneme_crds::all() {
        let plural = &crd.spec.names.plural;
        let (found, expected) = (summary(&crd), &summaries[plural]);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (ours, theirs) = (lines(&found), lines(expected));
        differences.extend(theirs.difference(&ours).map(|line| format!("{plural}: Cilium's  {line}")));
        differences.extend(ours.difference(&theirs).map(|line| format!("{plural}: this one's {line}")));
        if ours == theirs && found != *expected {
            differences.push(format!("{plural}: the order of versions, columns or fields"));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
#[ignore = "records Cilium's definitions anew, from UPSTREAM_CRDS"]
fn record() {
    let upstream = PathBuf::from(env::var_os("UPSTREAM_CRDS").expect("UPSTREAM_CRDS names Cilium's crds folder"));
    for (file, _) in summaries() {
        fs::remove_file(recorded().join(file).with_extension("txt")).unwrap();
    }
    for version in ["v2", "v2alpha1"] {
        for entry in fs::read_dir(upstream.join(version)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let crd: CustomResourceDefinition = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                fs::write(recorded().join(name(&path)).with_extension("txt"), summary(&crd)).unwrap();
            }
        }
    }
}
