//! Whether anything of the harness is left on the machine when no cluster should be there.

use std::path::Path;

use anyhow::Result;

use crate::cgroup::Hierarchies;
use crate::cleanup::all_processes;
use crate::link;
use crate::paths::{PREFIX, Paths};
use crate::process::ProcessId;
use crate::state;

/// Everything that is left of any cluster but those in `expected`, in words. Empty is good.
pub fn find(paths: &Paths, expected: &[String]) -> Result<Vec<String>> {
    let ours = |name: &str| {
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        !expected.iter().any(|e| rest.split('-').next() == Some(e))
    };
    let mut found = Vec::new();
    let cgroups = Hierarchies::find()?;
    for owner in cgroups.owners(PREFIX).iter().filter(|n| ours(n)) {
        found.push(format!("cgroup {owner} with {} processes", cgroups.processes(owner).len()));
    }
    found.extend(link::links(PREFIX).iter().filter(|n| ours(n)).map(|n| format!("link {n}")));
    found.extend(link::namespaces(PREFIX).iter().filter(|n| ours(n)).map(|n| format!("network namespace {n}")));
    let folders: Vec<_> = state::clusters(paths).into_iter().filter(|name| !expected.contains(name)).collect();
    found.extend(folders.iter().map(|name| format!("folder {}", paths.clusters().join(name).display())));
    let kept: Vec<_> = expected.iter().map(|name| paths.clusters().join(name)).collect();
    found.extend(mounts("self", &paths.clusters(), &kept).into_iter().map(|m| format!("mount {m}")));
    for pid in all_processes() {
        found.extend(process(pid, paths, &kept));
    }
    Ok(found)
}

/// A process is the harness' when it runs one of its binaries, or sees one of its clusters' folders mounted.
fn process(pid: i32, paths: &Paths, kept: &[std::path::PathBuf]) -> Option<String> {
    let id = ProcessId::of(pid)?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    // A component names its cluster's folder in its arguments; so the clusters that are expected can be told apart.
    if kept
        .iter()
        .any(|folder| command.contains(&*folder.to_string_lossy()) || !mounts(&pid.to_string(), folder, &[]).is_empty())
    {
        return None;
    }
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let server = executable.starts_with(paths.bin()) && ["kube", "etcd"].iter().any(|n| executable.ends_with(n));
    let inside = mounts(&pid.to_string(), &paths.clusters(), kept);
    if server || !inside.is_empty() {
        let command: String = command.chars().take(100).collect();
        return Some(format!("process {pid} ({}): {command}", id.name()));
    }
    None
}

/// Mounts, as a process sees them, whose source or place is in `folder` and in none of `kept`.
fn mounts(process: &str, folder: &Path, kept: &[std::path::PathBuf]) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let names = |line: &str| -> Vec<String> { line.split(' ').skip(3).take(2).map(str::to_owned).collect() };
    let inside =
        |path: &str| Path::new(path).starts_with(folder) && !kept.iter().any(|k| Path::new(path).starts_with(k));
    table.lines().filter(|line| names(line).iter().any(|n| inside(n))).map(|line| names(line).join(" at ")).collect()
}
