//! Whether anything of a cluster is left on the machine when it should not be there.

use std::path::Path;

use anyhow::Result;

use crate::cgroup::Hierarchies;
use crate::cleanup::all_processes;
use crate::link;
use crate::paths::{PREFIX, Paths};
use crate::process::ProcessId;
use crate::state;

/// Everything that is left of the cluster `of`, or of any cluster when there is no name, in words. Empty is good.
pub fn find(paths: &Paths, of: Option<&str>) -> Result<Vec<String>> {
    let ours = |name: &str| {
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        of.is_none_or(|of| rest.split('-').next() == Some(of))
    };
    let folder = of.map_or_else(|| paths.clusters(), |of| paths.clusters().join(of));
    let mut found = Vec::new();
    let cgroups = Hierarchies::find()?;
    for owner in cgroups.owners(PREFIX).iter().filter(|n| ours(n)) {
        found.push(format!("cgroup {owner} with {} processes", cgroups.processes(owner).len()));
    }
    found.extend(link::links(PREFIX).iter().filter(|n| ours(n)).map(|n| format!("link {n}")));
    found.extend(link::namespaces(PREFIX).iter().filter(|n| ours(n)).map(|n| format!("network namespace {n}")));
    let folders = state::clusters(paths).into_iter().filter(|name| of.is_none_or(|of| of == name));
    found.extend(folders.map(|name| format!("folder {}", paths.clusters().join(name).display())));
    found.extend(mounts("self", &folder).into_iter().map(|m| format!("mount {m}")));
    found.extend(all_processes().filter_map(|pid| process(pid, paths, &folder)));
    Ok(found)
}

/// A process is a cluster's when it runs one of the harness' binaries with something of its folder in its arguments, or sees
/// that folder mounted.
fn process(pid: i32, paths: &Paths, folder: &Path) -> Option<String> {
    let id = ProcessId::of(pid)?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let server = executable.starts_with(paths.bin()) && command.contains(&*folder.to_string_lossy());
    if server || !mounts(&pid.to_string(), folder).is_empty() {
        let command: String = command.chars().take(100).collect();
        return Some(format!("process {pid} ({}): {command}", id.name()));
    }
    None
}

/// Mounts, as a process sees them, whose source or place is in `folder`.
fn mounts(process: &str, folder: &Path) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let names = |line: &str| -> Vec<String> { line.split(' ').skip(3).take(2).map(str::to_owned).collect() };
    let inside = |path: &str| Path::new(path).starts_with(folder);
    table.lines().filter(|line| names(line).iter().any(|n| inside(n))).map(|line| names(line).join(" at ")).collect()
}
