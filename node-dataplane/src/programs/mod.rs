//! The BPF programs of a node: loading, pinning, attaching.
//!
//! [`load`](loader::load) runs in a short-lived process (`axoneme-node load`), because what it takes to parse ELF and BTF would
//! stay with the daemon. What is left behind in the BPF file system is all that the daemon needs:
//!
//! ```text
//! <root>/maps/<map>               opened by name
//! <root>/progs/<program>          hung on pods' devices at CNI ADD
//! <root>/links/<program>_<ifindex>  uplinks and overlay (tcx); a link that is pinned stays attached
//! <root>/links/<program>          the cgroup's
//! <root>/loaded                   what was loaded last, see `fingerprint`
//! <root>/staging/                 what a load makes before it is put in place; no dots in names, the kernel keeps them
//! ```

pub mod attach;
pub mod bpffs;
mod cgroup;
pub mod definition;
mod fingerprint;
pub mod kernel;
pub mod loader;
mod object;
pub mod sizes;
pub mod syscall;
mod transfer;
mod unload;

use std::path::{Path, PathBuf};

pub use loader::{LoadConfig, LoadError, LoadReport, is_loaded, load};
pub use unload::unload;

/// Where a node's objects are pinned when nothing else is configured.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/axoneme";

/// Where objects are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Below `root`, a directory in a BPF file system that is ours alone.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory above all.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of the maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Directory of the programs.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    /// Directory of the links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Directory for what is not in place yet.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::new(DEFAULT_ROOT)
    }
}
