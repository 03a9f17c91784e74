//! Programs of the CNI project, built from `e2e/go/cni`, where their versions are pinned.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder with `bridge`, `ptp`, `host-local` and `cnitool`, built once by whoever asks first.
pub fn cni_programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni-programs");
        std::fs::create_dir_all(&folder).unwrap();
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/go/cni");
        let status = Command::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
            .arg(folder.join(""))
            .arg("github.com/containernetworking/cni/cnitool")
            .args(["main/bridge", "main/ptp", "ipam/host-local"].map(plugin))
            .env("CGO_ENABLED", "0")
            .current_dir(module)
            .status()
            .expect("go, which these tests need");
        assert!(status.success(), "go build");
        folder
    })
}

fn plugin(name: &str) -> String {
    format!("github.com/containernetworking/plugins/plugins/{name}")
}
