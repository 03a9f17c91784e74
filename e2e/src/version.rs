//! Versions of this project that can be installed: this build, and the one before, so that an upgrade begins with what people have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::images::{BINARIES, static_binaries, write_images};
use crate::kubectl::run;
use crate::paths::Paths;
use crate::progress::slow_step;

/// Where the chart is in the repository.
const CHART: &str = "charts/axoneme";

/// The tag of this build's images, which is the chart's default.
const TAG: &str = "dev";

/// A version that can be installed.
#[derive(Debug, Clone)]
pub struct Version {
    /// The chart's folder.
    pub chart: PathBuf,
    /// The images' tag. Every version has its own: on a rollback the nodes have both.
    pub tag: String,
    /// Images of the operator and the node.
    pub archives: [PathBuf; 2],
}

impl Version {
    /// This build.
    pub fn this(paths: &Paths) -> Result<Self> {
        let built = slow_step("build axoneme-operator, axoneme-node and axoneme-cni (static)", || {
            static_binaries(&paths.repository, &paths.target)
        })?;
        Ok(Self::of_archives(paths, write_images(paths, &built, TAG)?))
    }

    /// This build's chart, with images that were built before.
    pub fn of_archives(paths: &Paths, archives: [PathBuf; 2]) -> Self {
        Self { chart: paths.repository.join(CHART), tag: TAG.to_owned(), archives }
    }

    /// The commit in `e2e/skew/previous`, which spoke the protocol before this one. It is built once and kept in the cache.
    pub fn previous(paths: &Paths) -> Result<Self> {
        let commit = std::fs::read_to_string(paths.repository.join("e2e/skew/previous"))?.trim().to_owned();
        let kept = paths.cache.join("skew").join(format!("{commit}-images"));
        if !kept.exists() {
            slow_step(&format!("build the version before, {commit:.7}"), || build(paths, &commit, &kept))?;
        }
        let tag = commit.chars().take(7).collect::<String>();
        let archives = write_images(paths, &kept, &tag)?;
        Ok(Self { chart: kept.join(CHART), tag, archives })
    }
}

/// Builds a commit's binaries into the folder `kept`, with its chart, or leaves no such folder.
fn build(paths: &Paths, commit: &str, kept: &Path) -> Result<()> {
    let repository = &paths.repository;
    let known = run(Command::new("git").arg("-C").arg(repository).args(["cat-file", "-e", commit]));
    known.with_context(|| format!("commit {commit} is not in this clone: git fetch --unshallow"))?;
    let parent = kept.parent().context("the cache has no folder for versions")?;
    std::fs::create_dir_all(parent)?;
    // Not in the repository's folder, where cargo would take it for a member of this workspace.
    let work = tempfile::Builder::new().prefix(".build-").tempdir_in(parent)?;
    let (sources, result) = (work.path().join("sources"), work.path().join("result"));
    archive(repository, commit, None, &sources)?;
    archive(repository, commit, Some(CHART), &result)?;
    // Not this build's target folder, though most dependencies are the same: cargo tells two checkouts of a workspace apart by
    // nothing but the times of their files, and would mix them.
    let built = static_binaries(&sources, &work.path().join("target"))?;
    for binary in BINARIES {
        std::fs::copy(built.join(binary), result.join(binary)).with_context(|| format!("cannot keep {binary}"))?;
    }
    std::fs::rename(&result, kept).with_context(|| format!("cannot keep {}", kept.display()))
}

/// Writes a commit's files, or those below a path of it, into a folder.
fn archive(repository: &Path, commit: &str, path: Option<&str>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut git = Command::new("git");
    git.arg("-C").arg(repository).args(["archive", commit]).args(path).stdout(Stdio::piped());
    let mut git = git.spawn().context("cannot run git")?;
    let files = git.stdout.take().context("git archive has no output")?;
    tar::Archive::new(files).unpack(folder).with_context(|| format!("cannot write {}", folder.display()))?;
    ensure!(git.wait()?.success(), "git archive {commit} fails");
    Ok(())
}
