//! kubectl and helm, as a user would call them, on one cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::gobuild::{HELM, KUBECTL};

impl Cluster {
    /// kubectl of the cluster's version, with its kubeconfig.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new(KUBECTL.build(&self.paths)?);
        command.env("KUBECONFIG", self.folder.kubeconfig());
        Ok(command)
    }

    /// helm with the cluster's kubeconfig.
    pub fn helm(&self) -> Result<Command> {
        let mut command = Command::new(HELM.build(&self.paths)?);
        command.env("KUBECONFIG", self.folder.kubeconfig());
        Ok(command)
    }

    /// Applies a manifest in which `@NAME@` stands for values.
    pub fn apply(&self, manifest: &Path, values: &[(&str, &str)]) -> Result<()> {
        let mut text =
            std::fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        for (name, value) in values {
            text = text.replace(&format!("@{name}@"), value);
        }
        let mut kubectl = self.kubectl()?;
        kubectl
            .args(["apply", "--server-side", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn().context("cannot run kubectl")?;
        child.stdin.take().context("kubectl has no input")?.write_all(text.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl apply -f {}: {}", manifest.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// Runs a command; if it fails, what it said is the error.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).trim().to_owned());
        bail!("{name}: {}", said.join("\n").trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
