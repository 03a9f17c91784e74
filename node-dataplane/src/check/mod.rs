//! Whether this network can run on a node, and what would be in its way: before an install, and after.
//!
//! Each part looks at one thing and says what to do about it. What has to be tried in the kernel goes through [`Probe`], the rest
//! is read from files below the host's root, so that a container can look at its host, and a test at a folder. The daemon looks
//! at the same when it starts, and writes what it finds to its log.

mod attached;
mod catalogue;
mod chains;
pub mod command;
mod conflists;
mod kernel;
mod leftovers;
mod legacy;
mod mounts;
mod ports;
mod routing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axoneme_admin::check::{Finding, Level, Report};

use crate::config::Config;
use crate::nftables;
use crate::programs::kernel::KernelError;
pub use routing::{Route, Rule};

/// Kinds of file systems that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// The unified hierarchy.
    Cgroup2,
    /// Pinned BPF objects.
    Bpf,
    /// Another one.
    Other,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// How iproute2 is told.
    fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }
}

/// By what a chain is seen and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// iptables that keeps its chains in nftables.
    Iptables,
    /// The same for IPv6.
    Ip6tables,
    /// The older iptables, of which nftables knows nothing.
    IptablesLegacy,
    /// The same for IPv6.
    Ip6tablesLegacy,
    /// A table of nftables that iptables does not make, of this family.
    Nft(&'static str),
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Ip6tablesLegacy => "ip6tables-legacy",
            Self::Nft(_) => "nftables",
        })
    }
}

/// A program that is attached somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// What it is called.
    pub program: String,
    /// Where.
    pub place: String,
    /// What takes it off.
    pub removal: String,
}

/// A chain of a firewall.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// By what it is seen.
    pub tool: Tool,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// What cannot be read from files.
pub trait Probe {
    /// What is mounted at, or above, a path. None: there is no such path.
    fn filesystem(&self, path: &Path) -> Option<Filesystem>;
    /// All chains of nftables.
    ///
    /// # Errors
    /// When the kernel refuses, or has no nftables.
    fn chains(&self) -> io::Result<Vec<Chain>>;
    /// Names of the chains that somebody has made in a table of the older iptables, which must exist.
    ///
    /// # Errors
    /// When the kernel refuses, or has no such table.
    fn legacy_chains(&self, family: Family, table: &str) -> io::Result<Vec<String>>;
    /// All rules of policy routing.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn rules(&self) -> io::Result<BTreeSet<Rule>>;
    /// All routes, as far as they differ in who made them and where they are.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn routes(&self) -> io::Result<BTreeSet<Route>>;
    /// All programs on devices and on this cgroup.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn attached(&self, cgroup: &Path) -> io::Result<Vec<Attached>>;
    /// Whether the kernel has what the programs need.
    ///
    /// # Errors
    /// Naming what it lacks.
    fn kernel(&self) -> Result<(), KernelError>;
}

/// The kernel that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Probe for Kernel {
    fn filesystem(&self, path: &Path) -> Option<Filesystem> {
        mounts::filesystem(path)
    }

    fn chains(&self) -> io::Result<Vec<Chain>> {
        nftables::chains()
    }

    fn legacy_chains(&self, family: Family, table: &str) -> io::Result<Vec<String>> {
        legacy::chains(family, table)
    }

    fn rules(&self) -> io::Result<BTreeSet<Rule>> {
        routing::rules()
    }

    fn routes(&self) -> io::Result<BTreeSet<Route>> {
        routing::routes()
    }

    fn attached(&self, cgroup: &Path) -> io::Result<Vec<Attached>> {
        attached::attached(cgroup)
    }

    fn kernel(&self) -> Result<(), KernelError> {
        crate::programs::kernel::check()
    }
}

/// A node that is looked at.
#[derive(Clone, Debug)]
pub struct Host<P> {
    /// Where its files are: "/", or where a container has them.
    pub root: PathBuf,
    /// What the daemon there is told, or would be.
    pub config: Config,
    /// A daemon of this network runs there.
    pub installed: bool,
    /// Asks its kernel.
    pub probe: P,
}

impl<P: Probe> Host<P> {
    /// Looks at everything.
    #[must_use]
    pub fn look(&self) -> Report {
        let mut findings = self.kernel();
        findings.extend(self.mounts());
        findings.extend(self.ports());
        findings.extend(self.leftovers());
        let host = self.read("proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Report { host, installed: self.installed, findings }
    }

    /// What others have left, or still run: conflists, devices, programs, chains, rules and routes, pins.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Finding> {
        let mut findings = self.conflists();
        findings.extend(self.links());
        findings.extend(self.programs());
        findings.extend(self.firewall());
        findings.extend(self.routing());
        findings.extend(self.pins());
        if !findings.iter().any(|finding| finding.level > Level::Good) {
            findings.push(Finding::good(
                "other networks",
                "no configurations, devices, programs, chains, rules or routes of others",
            ));
        }
        findings
    }

    /// A path of the host, written without a leading slash.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path that the daemon is configured with, as it is seen from here.
    fn configured(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// Names in a folder, sorted; none if it is not there.
    fn names(&self, folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// What the daemon itself says of other networks when it starts.
pub fn say(config: &Config) {
    // It is not installed yet: its own configuration comes when it is ready.
    let host = Host { root: "/".into(), config: config.clone(), installed: false, probe: Kernel };
    for finding in host.leftovers().into_iter().filter(|finding| finding.level > Level::Good) {
        let Finding { check, found, advice, .. } = finding;
        tracing::warn!(check, advice, "{found}");
    }
}
