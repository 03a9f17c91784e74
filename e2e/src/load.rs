//! Loading image archives into a node's containerd.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::ProcessId;
use crate::sandbox::Namespaces;
use crate::state::Folder;

/// Loads those archives into node `index` that it does not have. Archives are named by their content, and a file in the
/// node's folder says which were loaded, so that loading again costs nothing.
pub fn archives(folder: &Folder, index: u8, init: ProcessId, archives: &[PathBuf]) -> Result<()> {
    let mut loaded = recorded(folder, index);
    let namespaces = Namespaces::of(init)?;
    for archive in archives.iter().filter(|a| !loaded.contains(*a)).collect::<Vec<_>>() {
        let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        // Through standard input, because the node need not see the place where the archive is.
        let output = namespaces.command("ctr")?.args(["-n", "k8s.io", "images", "import", "-"]).stdin(file).output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("{} cannot import {}: {reason}", folder.node_name(index), archive.display());
        }
        // What a user names himself may hold something else the next time.
        if is_named_by_content(archive) {
            loaded.insert(archive.clone());
        }
    }
    std::fs::write(record(folder, index), serde_json::to_vec(&loaded)?)?;
    Ok(())
}

/// The archives that were loaded into node `index` and whose names tell their content.
pub fn recorded(folder: &Folder, index: u8) -> BTreeSet<PathBuf> {
    std::fs::read(record(folder, index)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn record(folder: &Folder, index: u8) -> PathBuf {
    folder.node(index).join("images.json")
}

fn is_named_by_content(archive: &std::path::Path) -> bool {
    let stem = archive.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    stem.rsplit_once('-').is_some_and(|(_, hash)| hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}
