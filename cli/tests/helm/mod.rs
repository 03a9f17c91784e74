//! Helm, and what it makes of the chart.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_yaml::Value;

use crate::KUBERNETES;

/// The helm binary.
pub struct Helm(PathBuf);

impl Helm {
    /// Takes the one that the end-to-end tests have built, else the one in `PATH`, else builds it, which takes minutes once.
    /// Fails without, unless `AXONEME_SKIP_HELM` is set.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match FOUND.get_or_init(|| built().or_else(in_path).map_or_else(build, Ok)) {
            Ok(helm) => Some(Self(helm.clone())),
            Err(problem) => {
                assert!(env::var_os("AXONEME_SKIP_HELM").is_some(), "{problem}; AXONEME_SKIP_HELM=1 skips");
                eprintln!("skipped: {problem}");
                None
            }
        }
    }

    pub fn run(&self, command: &[&str], arguments: &[&str]) -> Output {
        // Nothing of the user's helm: no plugins, no repositories, no cluster.
        let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
        Command::new(&self.0)
            .args(command)
            .arg(chart())
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", &empty)
            .env("HELM_CACHE_HOME", empty.join("cache"))
            .env("HELM_CONFIG_HOME", empty.join("config"))
            .env("HELM_DATA_HOME", empty.join("data"))
            .output()
            .unwrap()
    }

    pub fn render(&self, kubernetes: &str, arguments: &[&str]) -> Result<String, String> {
        let command = ["template", "axoneme", "--namespace=kube-system", "--kube-version", kubernetes];
        let output = self.run(&command, arguments);
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// What `read` makes of a file of the ConfigMap.
    pub fn settings<T>(&self, name: &str, arguments: &[&str], read: impl FnOnce(&Path) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        let maps = self.objects(arguments).into_iter().filter(|object| object["kind"] == "ConfigMap");
        let text = maps.filter_map(|map| map["data"][name].as_str().map(str::to_owned)).next().unwrap();
        fs::write(&file, text).unwrap();
        read(&file)
    }

    /// What is installed: hooks come and go.
    pub fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = self.everything(arguments);
        all.retain(|object| object["metadata"]["annotations"]["helm.sh/hook"].is_null());
        all
    }

    pub fn everything(&self, arguments: &[&str]) -> Vec<Value> {
        let rendered = self.render(KUBERNETES[1], arguments).unwrap();
        let documents = rendered.strip_prefix("---\n").unwrap_or(&rendered).split("\n---\n");
        documents.map(|document| serde_yaml::from_str(document).unwrap()).collect()
    }

    /// The one object of a kind.
    pub fn object(&self, kind: &str, arguments: &[&str]) -> Value {
        let mut found: Vec<Value> =
            self.objects(arguments).into_iter().filter(|object| object["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        found.remove(0)
    }
}

/// The newest in the cache of the end-to-end tests.
fn built() -> Option<PathBuf> {
    let cache = env::var_os("AXONEME_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache/axoneme")))?;
    let folders = fs::read_dir(cache.join("bin")).ok()?.flatten();
    let folders = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("helm-"));
    let files = folders.map(|entry| entry.path().join("helm")).filter(|file| file.is_file());
    files.max_by_key(|file| file.metadata().and_then(|data| data.modified()).ok())
}

fn in_path() -> Option<PathBuf> {
    Command::new("helm").arg("version").output().is_ok().then(|| "helm".into())
}

fn build() -> Result<PathBuf, String> {
    let helm = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm-bin");
    if helm.is_file() {
        return Ok(helm);
    }
    eprintln!("building helm ...");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&helm).arg("helm.sh/helm/v3/cmd/helm");
    let output = go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/go/helm")).output();
    let output = output.map_err(|error| format!("there is no helm, and go cannot be run to build it: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(helm).ok_or_else(|| format!("there is no helm, and go cannot build it: {said}"))
}

/// The chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/axoneme")
}
