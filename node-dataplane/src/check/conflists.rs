//! CNI configurations: the runtime reads the first one by name.

use std::fs;
use std::path::Path;

use axoneme_admin::check::Finding;
use serde_json::Value;

use super::catalogue::NETWORKS;
use super::{Host, Probe};
use crate::endpoint::conflist::FILE_NAME as FILE;

const CHECK: &str = "CNI configuration";

impl<P: Probe> Host<P> {
    pub(super) fn conflists(&self) -> Vec<Finding> {
        let folder = self.configured(&self.config.cni.conf_directory);
        let shown = self.config.cni.conf_directory.display();
        let is_read = |name: &&String| [".conf", ".conflist", ".json"].iter().any(|ending| name.ends_with(ending));
        let names = self.names(&folder);
        let read: Vec<&String> = names.iter().filter(is_read).collect();
        let mut findings = Vec::new();
        for name in read.iter().filter(|name| ***name != FILE) {
            let whose = whose(&folder.join(name)).unwrap_or("another network");
            let found = format!("{shown}/{name} is of {whose}");
            let before = read.first() == Some(name);
            findings.push(if !self.installed {
                let advice = if self.config.cni.exclusive {
                    format!("nothing: it is put aside as {name}.axoneme_bak when the daemon is ready (cni.exclusive)")
                } else {
                    format!("remove it when the daemon is ready: rm {shown}/{name}")
                };
                Finding::warning(CHECK, found, advice)
            } else if before && self.config.cni.chaining_target.is_empty() && !self.config.cni.custom_conf {
                let advice = format!("pods are still attached by it: rm {shown}/{name}, or set cni.exclusive");
                Finding::bad(CHECK, found, advice)
            } else {
                Finding::warning(CHECK, found, "nothing: the runtime reads the first one by name")
            });
        }
        if self.installed && !self.config.cni.custom_conf && !read.iter().any(|name| *name == FILE) {
            let advice = "it is written when the daemon is ready: see \"axoneme status\"";
            findings.push(Finding::bad(
                CHECK,
                format!("{shown}/{FILE} is missing: the runtime has no network"),
                advice,
            ));
        }
        if findings.is_empty() {
            findings.push(Finding::good(CHECK, format!("{shown} has none of another network")));
        }
        findings
    }
}

impl<P: Probe> Host<P> {
    /// Names that configurations give to bridges, also those that are put aside.
    pub(super) fn configured_bridges(&self) -> Vec<String> {
        let folder = self.configured(&self.config.cni.conf_directory);
        let read = self.names(&folder).into_iter().filter_map(|name| plugins(&folder.join(name)));
        let bridges = read.flatten().filter(|plugin| plugin["type"] == "bridge");
        bridges.filter_map(|plugin| plugin["bridge"].as_str().map(str::to_owned)).collect()
    }
}

/// Which network a configuration is of, by its plugins.
fn whose(file: &Path) -> Option<&'static str> {
    let of = |plugin: &Value| {
        let kind = plugin["type"].as_str()?;
        NETWORKS.iter().find(|network| network.plugins.contains(&kind)).map(|network| network.name)
    };
    plugins(file)?.iter().find_map(of)
}

/// The plugins of a configuration, which is one itself where it is no list.
fn plugins(file: &Path) -> Option<Vec<Value>> {
    let mut value: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    match value["plugins"].take() {
        Value::Array(plugins) => Some(plugins),
        _ => Some(vec![value]),
    }
}
