//! Removing a cluster, whatever is left of it. Names tell what belongs to a cluster, so this works without a state file and
//! after a crash in any step; doing it twice is fine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::Hierarchies;
use crate::link;
use crate::process::{self, ProcessId};
use crate::progress::step;
use crate::state::{Folder, State};

/// Removes everything of the cluster in `folder`, its data included.
pub fn cluster(folder: &Folder) -> Result<()> {
    // A state file that cannot be read must not keep what it describes alive.
    let state = folder.load().ok().flatten();
    let nodes = leftover_nodes(folder)?;
    let recorded = state.as_ref().map(State::processes).unwrap_or_default();
    step("stop components", || stop_components(&recorded))?;
    for name in &nodes {
        step(&format!("remove {name}"), || node(name))?;
    }
    step("remove the control plane, the bridge and all data", || {
        Hierarchies::find()?.remove(&folder.label())?;
        for name in link::links(&folder.label()) {
            if belongs(folder, &name) {
                link::remove_link(&name)?;
            }
        }
        remove_folder(&folder.path)
    })
}

/// Removes what one node left on the machine: processes, cgroups, namespace and uplink. Not its folder.
pub fn node(name: &str) -> Result<()> {
    let cgroups = Hierarchies::find()?;
    let in_namespace = processes_in(&link::network_namespace(name));
    cgroups.remove(name)?;
    // What somebody started by `pod-exec` or nsenter is in the namespace only.
    process::stop(&in_namespace, Duration::from_secs(1))?;
    if link::network_namespace(name).exists() {
        link::remove_namespace(name)?;
    }
    link::remove_link(name)
}

/// Removes the folder of a node or a cluster.
pub fn remove_folder(path: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mounts")?;
    // Deleting through a mount would delete something else.
    if let Some(line) = table.lines().find(|l| l.split(' ').nth(1).is_some_and(|m| Path::new(m).starts_with(path))) {
        bail!("something is mounted in {}: {line}; unmount it first", path.display());
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The names of all nodes of which something is there: a state entry, a cgroup, a namespace or an uplink.
fn leftover_nodes(folder: &Folder) -> Result<Vec<String>> {
    let prefix = format!("{}-n", folder.label());
    let mut names = Hierarchies::find()?.owners(&prefix);
    names.extend(link::namespaces(&prefix));
    names.extend(link::links(&prefix));
    names.sort();
    names.dedup();
    names.retain(|n| belongs(folder, n));
    Ok(names)
}

/// Whether `name` is the cluster's label or one of its nodes' names, and not that of a cluster with a longer name.
fn belongs(folder: &Folder, name: &str) -> bool {
    match name.strip_prefix(&folder.label()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix("-n").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

/// Kills all that was recorded: nothing of it is wanted any more, and an API server takes its time to end in order.
fn stop_components(recorded: &[ProcessId]) -> Result<()> {
    recorded.iter().for_each(|p| p.signal(libc::SIGKILL));
    process::stop(recorded, Duration::from_secs(5))
}

/// All processes whose network namespace is the one that `file` names.
pub fn processes_in(file: &Path) -> Vec<ProcessId> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(file).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    all_processes()
        .filter(|pid| std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| (m.dev(), m.ino()) == wanted))
        .filter_map(ProcessId::of)
        .collect()
}

/// The ids of all processes of the machine.
pub fn all_processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_is_another_cluster() {
        let folder = Folder { path: "/nowhere".into(), name: "dev".to_owned() };
        assert!(belongs(&folder, "axo-dev"));
        assert!(belongs(&folder, "axo-dev-n12"));
        assert!(!belongs(&folder, "axo-dev2"));
        assert!(!belongs(&folder, "axo-dev2-n1"));
        assert!(!belongs(&folder, "axo-dev-x"));
    }
}
