//! `crds/manifests/` is what the types generate.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_files_are_those_that_the_types_generate() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut generated = BTreeSet::new();
    for manifest in axoneme_crds::manifests().unwrap() {
        let found = fs::read_to_string(directory.join(&manifest.file)).unwrap_or_default();
        assert!(
            found == manifest.yaml,
            "crds/manifests/{} differs from the types; run: cargo run -p axoneme-crds --bin crdgen crds/manifests",
            manifest.file
        );
        generated.insert(manifest.file);
    }
    let present: BTreeSet<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(present, generated, "files without a type");
}
