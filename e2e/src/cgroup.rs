//! Control groups of nodes. Each node is one folder at the top of every hierarchy, so that programs which attach to cgroups
//! have a subtree per node, and so that whatever a node runs can be found and ended without knowing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::paths::PREFIX;
use crate::process::{ProcessId, wait_until};

/// The folders where cgroup hierarchies are mounted: version 2 last, the others are version 1.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    v1: Vec<PathBuf>,
    v2: PathBuf,
}

impl Hierarchies {
    /// Reads the mount table.
    pub fn find() -> Result<Self> {
        let table = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mount table")?;
        let mounts = |kind: &str| -> Vec<PathBuf> {
            let fields = table.lines().map(|l| l.split(' ').collect::<Vec<_>>());
            fields.filter(|f| f.get(2) == Some(&kind)).filter_map(|f| f.get(1).map(PathBuf::from)).collect()
        };
        let v2 = mounts("cgroup2")
            .into_iter()
            .next()
            .context("no cgroup2 filesystem is mounted; the data plane needs one")?;
        Ok(Self { v1: mounts("cgroup"), v2 })
    }

    /// Where version 2 is mounted.
    pub fn v2(&self) -> &Path {
        &self.v2
    }

    /// The cgroup for processes of `owner` that are no container's.
    pub fn system(&self, owner: &str) -> PathBuf {
        self.v2.join(owner).join("system")
    }

    /// The same, and where version 1 divides the CPUs, the one there: what a node runs shares the CPUs with that node's pods, and not as so
    /// many equals with those of all nodes.
    pub fn homes(&self, owner: &str) -> Vec<PathBuf> {
        let divides = |hierarchy: &&PathBuf| hierarchy.join(owner).join("cpu.shares").exists();
        let shared = self.v1.iter().find(divides).map(|hierarchy| hierarchy.join(owner).join("system"));
        [self.system(owner)].into_iter().chain(shared).collect()
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().chain([&self.v2])
    }

    /// Makes `owner`'s cgroups. The kubelet wants its root cgroup in every hierarchy before it starts.
    pub fn create(&self, owner: &str) -> Result<()> {
        for hierarchy in self.all() {
            let dir = hierarchy.join(owner);
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the cgroup {}", dir.display()))?;
            // A new cpuset is empty in version 1, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if self.v1.contains(hierarchy) && dir.join(file).exists() {
                    std::fs::write(dir.join(file), std::fs::read(hierarchy.join(file))?)?;
                }
            }
        }
        // Where version 2 has the controllers, a child gets those that its parents pass on.
        for dir in [self.v2.clone(), self.v2.join(owner)] {
            let available = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            for controller in available.split_whitespace() {
                let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        self.homes(owner).iter().try_for_each(std::fs::create_dir_all)?;
        Ok(())
    }

    /// The names of owners, of which some hierarchy holds cgroups, that start with `prefix`.
    pub fn owners(&self, prefix: &str) -> Vec<String> {
        debug_assert!(prefix.starts_with(PREFIX));
        let entries = self.all().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(prefix)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// All processes in `owner`'s cgroups.
    pub fn processes(&self, owner: &str) -> Vec<ProcessId> {
        let mut found: Vec<_> = self.all().flat_map(|h| processes_below(&h.join(owner))).collect();
        found.sort_by_key(|p| p.pid);
        found.dedup();
        found
    }

    /// Kills everything in `owner`'s cgroups and removes them.
    pub fn remove(&self, owner: &str) -> Result<()> {
        let emptied = wait_until(Duration::from_secs(15), || {
            let left = self.processes(owner);
            left.iter().for_each(|p| p.signal(libc::SIGKILL));
            left.is_empty()
        });
        if !emptied {
            let left: Vec<_> = self.processes(owner).iter().map(|p| format!("{} ({})", p.pid, p.name())).collect();
            bail!("processes of {owner} do not end: {}", left.join(", "));
        }
        let dirs: Vec<_> = self.all().map(|h| h.join(owner)).filter(|d| d.exists()).collect();
        // A cgroup stays busy for a moment after its last process was reaped.
        if !wait_until(Duration::from_secs(5), || dirs.iter().filter(|dir| !remove_tree(dir)).count() == 0) {
            bail!("cannot remove the cgroups of {owner}");
        }
        Ok(())
    }
}

/// The processes of a cgroup and of all below it.
pub fn processes_below(dir: &Path) -> Vec<ProcessId> {
    let own = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<_> = own.lines().filter_map(|l| l.parse().ok()).filter_map(ProcessId::of).collect();
    for child in children(dir) {
        found.extend(processes_below(&child));
    }
    found
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Removes a cgroup from its leaves up; false if something is left.
fn remove_tree(dir: &Path) -> bool {
    children(dir).iter().for_each(|c| {
        remove_tree(c);
    });
    std::fs::remove_dir(dir).is_ok() || !dir.exists()
}
