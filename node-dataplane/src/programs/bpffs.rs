//! The file system in which objects of BPF stay when the process that made them is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// See systemd's documentation of cgroup delegation.
pub const HYBRID: &str = "unified";

/// Why a directory is not what is needed.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// It cannot be looked at, made or locked.
    #[error("cannot use {path}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No BPF file system is there, and none could be mounted.
    #[error("cannot mount a BPF file system at {path}: mount it on the host (mount -t bpf bpf {path})")]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path that has no parent.
    #[error("{0} is not a directory below a BPF file system")]
    Root(PathBuf),
    /// Not the root of cgroups that programs can hang on.
    #[error(
        "{0} is no cgroup v2 hierarchy, nor is unified/ in it: set cgroup.hostRoot to where the host has it mounted"
    )]
    Cgroup(PathBuf),
}

/// Finds the BPF file system above `root`, or mounts one where `root`'s parent is, and makes `directories`.
///
/// # Errors
/// Naming the directory that is not as needed.
pub fn prepare(root: &Path, directories: &[PathBuf]) -> Result<(), BpffsError> {
    let parent = root.parent().ok_or_else(|| BpffsError::Root(root.to_owned()))?;
    if magic(parent).map_err(BpffsError::directory(parent))? != BPF_FS_MAGIC {
        let mounted = mount(Some("bpf"), parent, Some("bpf"), MsFlags::empty(), None::<&str>);
        mounted.map_err(|errno| BpffsError::Mount { path: parent.to_owned(), source: errno.into() })?;
    }
    for directory in std::iter::once(root).chain(directories.iter().map(PathBuf::as_path)) {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BpffsError::directory(directory)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where the cgroup v2 hierarchy is: at `path`, or below it, where systemd mounts it on hosts that have cgroups of version 1 too
/// ("hybrid").
///
/// # Errors
/// When it is at neither, or `path` does not exist.
pub fn find_cgroup(path: &Path) -> Result<PathBuf, BpffsError> {
    if magic(path).map_err(BpffsError::directory(path))? == CGROUP2_SUPER_MAGIC {
        return Ok(path.to_owned());
    }
    let hybrid = path.join(HYBRID);
    if magic(&hybrid).is_ok_and(|magic| magic == CGROUP2_SUPER_MAGIC) {
        return Ok(hybrid);
    }
    Err(BpffsError::Cgroup(path.to_owned()))
}

impl BpffsError {
    pub(super) fn directory(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Directory { path: path.to_owned(), source }
    }
}

/// Which kind of file system a path is on.
fn magic(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statfs::statfs(path)?;
    Ok(stat.filesystem_type().0.cast_unsigned())
}
