//! What the harness remembers of a cluster between two commands: one JSON file in the cluster's folder, replaced as a
//! whole, so that a crash leaves the old or the new one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::address::{Addresses, Family, MAX_SLOT};
use crate::cluster::Shape;
use crate::paths::{PREFIX, Paths};
use crate::process::ProcessId;

/// Which network a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Cni {
    /// This project.
    Axoneme,
    /// Nothing: nodes stay NotReady until somebody installs a network.
    None,
    /// The plain bridge plugin and static routes: no policy, no services. The floor that figures are compared with.
    Bridge,
}

/// How packets of pods travel between nodes, where this project is the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// In VXLAN.
    #[default]
    Tunnel,
    /// As they are: the nodes are neighbours and keep routes to each other's pods.
    Native,
}

/// A cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// See [`Addresses`].
    pub slot: u8,
    /// Its network.
    pub cni: Cni,
    /// Its address families.
    #[serde(default)]
    pub family: Family,
    /// Its network's routing.
    #[serde(default)]
    pub routing: Routing,
    /// Whether `up` came to its end.
    pub complete: bool,
    /// Control plane processes by component.
    pub control_plane: BTreeMap<String, ProcessId>,
    /// Nodes by index.
    pub nodes: BTreeMap<u8, NodeState>,
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeState {
    /// The process that holds its namespaces.
    pub init: ProcessId,
    /// The other processes by component.
    pub processes: BTreeMap<String, ProcessId>,
}

impl State {
    /// The addresses in use.
    pub fn addresses(&self) -> Addresses {
        Addresses::new(self.slot, self.family)
    }

    /// What it is like now.
    pub fn shape(&self) -> Shape {
        let Self { cni, family, routing, .. } = *self;
        Shape { nodes: self.nodes.len() as u8, cni, family, routing }
    }

    /// Everything that was started and recorded.
    pub fn processes(&self) -> Vec<ProcessId> {
        let nodes = self.nodes.values().flat_map(|n| n.processes.values().chain([&n.init]));
        self.control_plane.values().chain(nodes).copied().collect()
    }
}

/// The folder of one cluster. At most one command changes a cluster at a time.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The cluster's name.
    pub name: String,
}

impl Folder {
    /// The folder of the cluster `name`.
    pub fn new(paths: &Paths, name: &str) -> Result<Self> {
        // Links have at most 15 characters, and `axo-NAME-n99` is one.
        if name.is_empty() || name.len() > 7 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("a cluster's name is 1 to 7 lower-case letters and digits, not {name:?}");
        }
        Ok(Self { path: paths.clusters().join(name), name: name.to_owned() })
    }

    /// The name of everything of this cluster that is not a node's: its bridge, its control plane's cgroup.
    pub fn label(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The name of node `index`: in Kubernetes, and of its namespace, uplink and cgroup.
    pub fn node_name(&self, index: u8) -> String {
        format!("{PREFIX}{}-n{index}", self.name)
    }

    /// The user's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// A log file.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// What belongs to node `index`.
    pub fn node(&self, index: u8) -> PathBuf {
        self.path.join(format!("n{index}"))
    }

    fn file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// The cluster's state, if there is a cluster.
    pub fn load(&self) -> Result<Option<State>> {
        match std::fs::read(self.file()) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", self.file().display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.file().display())),
        }
    }

    /// The state of a cluster that must be there.
    pub fn expect(&self) -> Result<State> {
        self.load()?.with_context(|| format!("there is no cluster called {}; start one with `make cluster`", self.name))
    }

    /// Replaces the state.
    pub fn save(&self, state: &State) -> Result<()> {
        let new = self.path.join("state.json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(state)?)?;
        std::fs::rename(&new, self.file()).context("cannot replace the state file")
    }

    /// Waits for other commands that change this cluster. Held until dropped.
    pub fn lock(&self, paths: &Paths) -> Result<Flock<File>> {
        lock(&paths.clusters(), &format!(".{}.lock", self.name))
    }
}

/// The right to run everything that uses a cluster of this name, which is one on the whole machine, whatever the cache. Does
/// not wait. Held until dropped, or until the process ends.
pub fn claim_name(name: &str) -> Result<Flock<File>> {
    let path = Path::new("/run/lock").join(format!("{PREFIX}{name}.lock"));
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            write!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err((_, Errno::EWOULDBLOCK)) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            bail!("the tests run already on this machine (process {holder}) and own the cluster {name}: wait for them")
        }
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn lock(dir: &Path, name: &str) -> Result<Flock<File>> {
    std::fs::create_dir_all(dir)?;
    let file = File::create(dir.join(name))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).context("cannot lock the cluster")
}

/// Names of all clusters that have a folder.
pub fn clusters(paths: &Paths) -> Vec<String> {
    let entries = std::fs::read_dir(paths.clusters()).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Takes a slot that no other cluster has, and runs `claim` with it while no other command may take one.
pub fn claim_slot<T>(paths: &Paths, claim: impl FnOnce(u8) -> Result<T>) -> Result<T> {
    let _lock = lock(&paths.clusters(), ".slots.lock")?;
    let mut taken = Vec::new();
    for name in clusters(paths) {
        if let Some(state) = Folder::new(paths, &name).ok().and_then(|f| f.load().ok().flatten()) {
            taken.push(state.slot);
        }
    }
    let used = crate::link::ip("-o addr show")?;
    let free = |slot: &u8| {
        let machine = Addresses::new(*slot, Family::Dual).machine();
        !taken.contains(slot) && !machine.iter().any(|address| used.contains(&format!(" {address} ")))
    };
    let slot =
        (1..=MAX_SLOT).find(free).context("too many clusters on this machine; remove one with `make cluster-down`")?;
    claim(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_once() {
        let name = format!("t{}", std::process::id());
        let first = claim_name(&name).unwrap();
        let refused = claim_name(&name).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        claim_name(&name).unwrap();
        std::fs::remove_file(format!("/run/lock/{PREFIX}{name}.lock")).unwrap();
    }
}
