//! Where the harness keeps things: what is slow to build in a cache that outlives clusters, what belongs to one cluster in
//! a folder that goes with it. This is the one place that reads the environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The prefix of every link, namespace and cgroup that the harness makes: what carries it is ours to remove.
pub const PREFIX: &str = "axo-";

/// The folders of the harness.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `${AXONEME_CACHE:-~/.cache/axoneme}`.
    pub cache: PathBuf,
    /// The top of this repository.
    pub repository: PathBuf,
    /// Where cargo builds: `${CARGO_TARGET_DIR:-target}`.
    pub target: PathBuf,
}

impl Paths {
    /// Reads the environment and finds the repository by its charts and its lock file, upwards from the working directory
    /// or else from where this crate was built.
    pub fn from_environment() -> Result<Self> {
        let cache = match std::env::var_os("AXONEME_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(std::env::var_os("HOME").context("neither AXONEME_CACHE nor HOME is set")?)
                .join(".cache/axoneme"),
        };
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot create the cache {}", cache.display()))?;
        let here = std::env::current_dir().context("the working directory is gone")?;
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let repository = here
            .ancestors()
            .chain([built.as_path()])
            .find(|dir| dir.join("e2e/go/kube/go.mod").is_file())
            .context("run this inside the repository: no e2e/go/kube/go.mod above the working directory")?
            .canonicalize()?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => here.join(dir),
            None => repository.join("target"),
        };
        Ok(Self { cache: cache.canonicalize()?, repository, target })
    }

    /// Built binaries, in one folder per content of their sources.
    pub fn bin(&self) -> PathBuf {
        self.cache.join("bin")
    }

    /// Image archives.
    pub fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// State, keys, logs and container storage of all clusters.
    pub fn clusters(&self) -> PathBuf {
        self.cache.join("clusters")
    }

    /// Figures and reports that a user wants to keep.
    pub fn reports(&self, kind: &str) -> PathBuf {
        self.repository.join("target").join(kind)
    }
}
