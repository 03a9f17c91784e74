//! How large the images are that the nodes were given: what is in them, not compressed.

use anyhow::{Context, Result};

use super::{Goal, Report, Row, Set};
use crate::cluster::Cluster;
use crate::load;

pub(super) fn measure(cluster: &Cluster) -> Result<Report> {
    let node = *cluster.nodes()?.first().context("the cluster has no nodes")?;
    let loaded = load::recorded(&cluster.folder, node);
    let mut report = Report::new(Set::Images);
    for (name, bound) in [("node", 15.0), ("operator", 25.0)] {
        let named = |archive: &&std::path::PathBuf| {
            let file = archive.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(&format!("{name}-")) && archive.exists()
        };
        let archive =
            loaded.iter().find(named).with_context(|| format!("no image {name} was loaded by the harness"))?;
        let size = std::fs::metadata(archive)?.len() as f64 / 1e6;
        report.add(Row::new(format!("image {name}"), size, "MB").reach(Goal::AtMost(bound)));
    }
    Ok(report)
}
