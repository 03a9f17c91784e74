//! Binaries that come from Go: Kubernetes, etcd, helm, CNI plugins and the upstream specs. They are built from the modules
//! in `e2e/go`, each into a folder of the cache that is named by the hash of what it is built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths::Paths;
use crate::progress;

/// A binary that the harness can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// Its file name.
    pub name: &'static str,
    /// The folder of its module in `e2e/go`.
    module: &'static str,
    /// The package, as `go build` takes it.
    package: &'static str,
    /// Whether it is a test binary.
    test: bool,
    /// Minutes that a build from nothing takes on two cores, to warn of the long ones.
    minutes: u8,
}

const fn tool(module: &'static str, name: &'static str, package: &'static str, minutes: u8) -> Binary {
    Binary { name, module, package, test: false, minutes }
}

/// API server, controller manager, scheduler and kubelet.
pub const KUBE: Binary = tool("kube", "kube", "./cmd/kube", 5);
/// kubectl.
pub const KUBECTL: Binary = tool("kube", "kubectl", "./cmd/kubectl", 1);
/// The server and client of upstream's network tests.
pub const AGNHOST: Binary = tool("kube", "agnhost", "k8s.io/kubernetes/test/images/agnhost", 1);
/// Upstream's SIG Network specs.
pub const E2E_TEST: Binary =
    Binary { name: "e2e.test", module: "kube", package: "./conformance", test: true, minutes: 2 };
/// Upstream's conformance tests of ClusterNetworkPolicy.
pub const NETWORK_POLICY_API: Binary =
    Binary { name: "network-policy-api.test", module: "network-policy-api", package: ".", test: true, minutes: 1 };
/// etcd's server.
pub const ETCD: Binary = tool("etcd", "etcd", ".", 1);
/// helm.
pub const HELM: Binary = tool("helm", "helm", "helm.sh/helm/v3/cmd/helm", 2);
/// The CNI plugin for the loopback device.
pub const LOOPBACK: Binary = tool("cni", "loopback", "github.com/containernetworking/plugins/plugins/main/loopback", 0);
/// The CNI plugin that joins pods to the host by a point-to-point link.
pub const PTP: Binary = tool("cni", "ptp", "github.com/containernetworking/plugins/plugins/main/ptp", 0);
/// The CNI plugin that joins pods to a bridge.
pub const BRIDGE: Binary = tool("cni", "bridge", "github.com/containernetworking/plugins/plugins/main/bridge", 0);
/// The CNI plugin that assigns addresses from a range of the node.
pub const HOST_LOCAL: Binary =
    tool("cni", "host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local", 0);
/// CoreDNS with what a cluster's DNS needs.
pub const COREDNS: Binary = tool("coredns", "coredns", ".", 2);
/// A command line for CNI plugins.
pub const CNITOOL: Binary = tool("cni", "cnitool", "github.com/containernetworking/cni/cnitool", 0);

/// What every cluster needs.
pub const CLUSTER: [Binary; 5] = [ETCD, KUBE, KUBECTL, LOOPBACK, AGNHOST];

/// All that `make build` builds; the rest is built when it is asked for.
pub const ALL: [Binary; 7] = [ETCD, KUBE, KUBECTL, LOOPBACK, AGNHOST, HELM, E2E_TEST];

impl Binary {
    /// Where it is in the cache, built or not.
    pub fn path(&self, paths: &Paths) -> Result<PathBuf> {
        let hash =
            sources_hash(&self.source(paths)).with_context(|| format!("cannot read the Go module {}", self.module))?;
        Ok(paths.bin().join(format!("{}-{hash}", self.module)).join(self.name))
    }

    /// Its path, after it was built if it was not there.
    pub fn build(&self, paths: &Paths) -> Result<PathBuf> {
        let path = self.path(paths)?;
        if path.exists() {
            return Ok(path);
        }
        let hint = if self.minutes > 1 { format!(" (about {} min, once)", self.minutes) } else { String::new() };
        progress::slow_step(&format!("build {}{hint}", self.name), || self.compile(paths, &path))?;
        Ok(path)
    }

    /// The folder of a Go module that it is made from.
    pub fn dependency(&self, paths: &Paths, module: &str) -> Result<PathBuf> {
        let mut go = Command::new("go");
        let output = go.args(["list", "-m", "-f", "{{.Dir}}", module]).current_dir(self.source(paths)).output();
        let output = output.context("cannot run go")?;
        let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || dir.is_empty() {
            bail!("go does not know where {module} is: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(dir.into())
    }

    fn source(&self, paths: &Paths) -> PathBuf {
        paths.repository.join("e2e/go").join(self.module)
    }

    fn compile(&self, paths: &Paths, path: &Path) -> Result<()> {
        let source = self.source(paths);
        let dir = path.parent().context("a binary lies in a folder")?;
        std::fs::create_dir_all(dir)?;
        // Built beside its place and renamed, so that what is there is always whole.
        let unfinished = dir.join(format!(".{}.{}", self.name, std::process::id()));
        let mut go = Command::new("go");
        go.args(if self.test { ["test", "-c"].as_slice() } else { ["build"].as_slice() });
        go.args(["-trimpath", "-buildvcs=false", "-ldflags"]).arg(linker_flags(&source)?);
        go.arg("-o").arg(&unfinished).arg(self.package).current_dir(&source);
        go.env("CGO_ENABLED", "0");
        let output = go.output().context("cannot run go: install Go 1.26 or later")?;
        if !output.status.success() {
            bail!("go could not build {}:\n{}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        std::fs::rename(&unfinished, path)?;
        Ok(())
    }
}

/// Builds all that are missing, one after the other: Go uses all cores for one.
pub fn build_all(paths: &Paths, binaries: &[Binary]) -> Result<()> {
    binaries.iter().try_for_each(|b| b.build(paths).map(drop))
}

/// No symbols, and the version that Kubernetes reports: clients, helm among them, decide by it.
fn linker_flags(module: &Path) -> Result<String> {
    let file = std::fs::read_to_string(module.join("go.mod"))?;
    let mut flags = "-s -w".to_owned();
    if let Some(version) = kubernetes_version(&file) {
        flags += &format!(" -X k8s.io/component-base/version.gitVersion={version}");
    }
    Ok(flags)
}

/// The version of Kubernetes that the module `kube` requires, like `v1.36.3`.
pub fn kubernetes_version(go_mod: &str) -> Option<&str> {
    let mut words = go_mod.split_whitespace().skip_while(|w| *w != "k8s.io/kubernetes");
    words.nth(1)
}

/// A short hash of a module's go.mod, go.sum and sources.
fn sources_hash(dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    sources(dir, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(dir)?.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(std::fs::read(&file)?));
    }
    Ok(hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect())
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "go" || e == "mod" || e == "sum") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_go_mod() {
        assert_eq!(kubernetes_version("require k8s.io/kubernetes v1.36.3\n\nreplace (...)"), Some("v1.36.3"));
    }

    #[test]
    fn another_source_is_another_hash() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("go.mod"), "module a").unwrap();
        let first = sources_hash(dir.path()).unwrap();
        std::fs::write(dir.path().join("main.go"), "package main").unwrap();
        assert_ne!(first, sources_hash(dir.path()).unwrap());
    }
}
