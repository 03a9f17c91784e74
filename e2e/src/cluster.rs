//! The life of a cluster: up, nodes added and removed, images loaded.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::address::{Family, MAX_NODES};
use crate::api::Api;
use crate::cgroup::Hierarchies;
use crate::control_plane::{self, ControlPlane};
use crate::node::{self, Node};
use crate::paths::Paths;
use crate::process::ProcessId;
use crate::progress::{heading, note, step};
use crate::state::{Cni, Folder, NodeState, Routing, State};
use crate::thread::join;
use crate::{bridge_cni, cleanup, gobuild, images, link, load, machine};

/// A cluster, running or about to.
#[derive(Debug)]
pub struct Cluster {
    /// Where the harness keeps things.
    pub paths: Paths,
    /// The cluster's folder.
    pub folder: Folder,
}

/// What a cluster is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Shape {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub nodes: u8,
    /// Its network.
    #[arg(long, value_enum, default_value = "none")]
    pub cni: Cni,
    /// Address families of nodes, pods and Services.
    #[arg(long, value_enum, default_value = "ipv4")]
    pub family: Family,
    /// How packets travel between nodes, where this project is the network.
    #[arg(long, value_enum, default_value = "tunnel")]
    pub routing: Routing,
}

impl Shape {
    /// This project with its defaults, on so many nodes.
    pub fn of(nodes: u8) -> Self {
        Self { nodes, cni: Cni::Axoneme, family: Family::default(), routing: Routing::default() }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { nodes, cni, family, routing } = self;
        write!(f, "{nodes} nodes, {family:?}, CNI {cni:?}")?;
        if *cni == Cni::Axoneme { write!(f, ", routing {routing:?}") } else { Ok(()) }
    }
}

/// Whether `up` had to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// The cluster was started.
    Started,
    /// It ran already.
    Running,
}

impl Cluster {
    /// The cluster called `name`.
    pub fn new(paths: Paths, name: &str) -> Result<Self> {
        let folder = Folder::new(&paths, name)?;
        Ok(Self { paths, folder })
    }

    /// A client with all rights.
    pub fn api(&self) -> Result<Api> {
        self.folder.expect()?;
        Api::new(&self.folder.kubeconfig())
    }

    /// Starts a cluster, or finds it running. Leftovers of one that crashed are removed first.
    pub fn up(&self, shape: Shape) -> Result<Up> {
        let _lock = self.folder.lock(&self.paths)?;
        if shape.nodes == 0 || shape.nodes > MAX_NODES {
            bail!("a cluster has 1 to {MAX_NODES} nodes");
        }
        if let Some(state) = self.folder.load().ok().flatten()
            && state.complete
            && state.processes().iter().all(|p| p.alive())
        {
            let is = state.shape();
            heading(&format!("Cluster {} runs: {is}", self.folder.name));
            if is != shape {
                note("it differs from what was asked for; `make cluster-down` first, or `axoneme-e2e node add`");
            }
            return Ok(Up::Running);
        }
        self.refuse_foreign()?;
        self.prepare(shape.cni)?;
        if self.leftovers()? {
            heading(&format!("Removing what is left of an earlier cluster {}", self.folder.name));
            cleanup::cluster(&self.folder)?;
        }
        heading(&format!("Starting cluster {}: {shape}", self.folder.name));
        self.start(shape).with_context(|| {
            format!(
                "cluster {} did not start; logs are in {}",
                self.folder.name,
                self.folder.path.join("logs").display()
            )
        })?;
        Ok(Up::Started)
    }

    /// Builds what is missing in the cache.
    fn prepare(&self, cni: Cni) -> Result<()> {
        machine::check()?;
        gobuild::build_all(&self.paths, &images::prerequisites())?;
        if cni == Cni::Bridge {
            gobuild::build_all(&self.paths, &bridge_cni::PLUGINS)?;
        }
        Ok(())
    }

    /// Fails when a cluster of this name runs that another cache knows of: names of links and cgroups are the machine's.
    pub fn refuse_foreign(&self) -> Result<()> {
        let label = self.folder.label();
        if self.folder.path.exists() || Hierarchies::find()?.processes(&label).is_empty() {
            return Ok(());
        }
        let (name, clusters) = (&self.folder.name, self.paths.clusters());
        bail!(
            "a cluster called {name} runs on this machine and is not in {}: take another NAME, or remove it with the \
             AXONEME_CACHE that it was started with (`make cluster-down NAME={name}` removes it with any)",
            clusters.display()
        )
    }

    fn leftovers(&self) -> Result<bool> {
        let label = self.folder.label();
        let there = self.folder.path.exists()
            || !link::links(&label).is_empty()
            || !Hierarchies::find()?.owners(&label).is_empty();
        Ok(there)
    }

    fn start(&self, shape: Shape) -> Result<()> {
        std::fs::create_dir_all(self.folder.path.join("logs"))?;
        let mut state = crate::state::claim_slot(&self.paths, |slot| {
            let state = State {
                name: self.folder.name.clone(),
                slot,
                cni: shape.cni,
                family: shape.family,
                routing: shape.routing,
                complete: false,
                control_plane: Default::default(),
                nodes: Default::default(),
            };
            self.folder.save(&state)?;
            link::create_bridge(&self.folder.label(), &state.addresses().machine())?;
            Ok(state)
        })?;
        let control_plane = ControlPlane::new(&self.paths, &self.folder, state.addresses())?;
        Hierarchies::find()?.create(&self.folder.label())?;
        for component in ["etcd", "apiserver"] {
            state.control_plane.insert(component.to_owned(), control_plane.start(component)?);
            self.folder.save(&state)?;
        }
        let server = state.control_plane["apiserver"];
        // Nodes get their container runtime and images while the API server starts.
        let (prepared, api) = std::thread::scope(|scope| {
            let nodes =
                scope.spawn(|| self.prepare_nodes(&state, &control_plane, &(1..=shape.nodes).collect::<Vec<_>>()));
            let api = step("etcd and API server", || control_plane.wait_ready(server));
            (join(nodes), api)
        });
        let (prepared, api) = (prepared?, api?);
        state.nodes.extend(prepared);
        self.folder.save(&state)?;
        for component in &control_plane::COMPONENTS[2..] {
            state.control_plane.insert((*component).to_owned(), control_plane.start(component)?);
        }
        self.folder.save(&state)?;
        let indexes: Vec<_> = state.nodes.keys().copied().collect();
        self.start_kubelets(&mut state, &api, &indexes)?;
        state.complete = true;
        self.folder.save(&state)
    }

    /// Makes nodes up to where only the kubelet is missing: all at the same time.
    fn prepare_nodes(
        &self,
        state: &State,
        control_plane: &ControlPlane<'_>,
        indexes: &[u8],
    ) -> Result<Vec<(u8, NodeState)>> {
        let mut archives = step("images for tests", || images::test_images(&self.paths))?;
        // A node that joins gets what the others have, before its kubelet asks for it.
        let known = state.nodes.keys().flat_map(|index| load::recorded(&self.folder, *index));
        archives.extend(known.filter(|archive| archive.exists()));
        archives.sort();
        archives.dedup();
        step(&format!("{} nodes: namespaces, containerd, images", indexes.len()), || {
            std::thread::scope(|scope| {
                let start = |index: u8| {
                    let archives = &archives;
                    scope.spawn(move || {
                        self.prepare_node(state, control_plane, index, archives).map(|node| (index, node))
                    })
                };
                let threads: Vec<_> = indexes.iter().copied().map(start).collect();
                threads.into_iter().map(join).collect()
            })
        })
    }

    fn prepare_node(
        &self,
        state: &State,
        control_plane: &ControlPlane<'_>,
        index: u8,
        archives: &[PathBuf],
    ) -> Result<NodeState> {
        let node = Node::new(&self.paths, &self.folder, state, index);
        let work = || -> Result<NodeState> {
            let init = node.create(control_plane)?;
            if state.cni == Cni::Bridge {
                bridge_cni::install(&self.paths, &self.folder, state.addresses(), index)?;
            }
            let mut node_state = Node::state(init);
            node_state.processes.insert("containerd".to_owned(), node.start(init, "containerd")?);
            node.wait_containerd(init)?;
            load::archives(&self.folder, index, init, archives)?;
            Ok(node_state)
        };
        work().with_context(|| format!("cannot start node {}", node.name))
    }

    fn start_kubelets(&self, state: &mut State, api: &Api, indexes: &[u8]) -> Result<()> {
        for index in indexes {
            let node = Node::new(&self.paths, &self.folder, state, *index);
            let entry = state.nodes.get_mut(index).context("a node that was prepared has a state")?;
            entry.processes.insert("kubelet".to_owned(), node.start(entry.init, "kubelet")?);
        }
        self.folder.save(state)?;
        step("scheduler, controllers and kubelets", || {
            for index in indexes {
                let name = self.folder.node_name(*index);
                let what = format!(
                    "the kubelet of {name} to register; its log: {}",
                    self.folder.log(&format!("n{index}-kubelet")).display()
                );
                api.wait(&what, Duration::from_secs(60), |api| api.find(&format!("/api/v1/nodes/{name}")))?;
            }
            api.wait("the controllers' service accounts", Duration::from_secs(60), |api| {
                api.find("/api/v1/namespaces/default/serviceaccounts/default")
            })
        })?;
        if state.cni == Cni::Bridge {
            bridge_cni::connect(&self.folder, state.addresses(), &state.nodes.keys().copied().collect::<Vec<_>>())?;
            step("nodes are ready", || self.wait_nodes_ready(api, Duration::from_secs(60)))?;
        }
        Ok(())
    }

    /// Waits until all nodes are ready.
    pub fn wait_nodes_ready(&self, api: &Api, patience: Duration) -> Result<()> {
        api.wait("all nodes to be ready", patience, |api| {
            let ready = |node: &serde_json::Value| {
                let conditions = node["status"]["conditions"].as_array();
                conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
            };
            Ok(api.list("/api/v1/nodes")?.iter().all(ready).then_some(()))
        })
    }

    /// Adds `count` nodes to a running cluster.
    pub fn add_nodes(&self, count: u8) -> Result<()> {
        let _lock = self.folder.lock(&self.paths)?;
        let mut state = self.folder.expect()?;
        let free: Vec<_> = (1..=MAX_NODES).filter(|i| !state.nodes.contains_key(i)).take(count.into()).collect();
        let control_plane = ControlPlane::new(&self.paths, &self.folder, state.addresses())?;
        let prepared = self.prepare_nodes(&state, &control_plane, &free)?;
        state.nodes.extend(prepared);
        self.folder.save(&state)?;
        self.start_kubelets(&mut state, &self.api()?, &free)
    }

    /// Removes a node: its Node object first, as an administrator would, then everything of it.
    pub fn remove_node(&self, index: u8) -> Result<()> {
        let _lock = self.folder.lock(&self.paths)?;
        let mut state = self.folder.expect()?;
        let node = state.nodes.remove(&index).with_context(|| format!("there is no node {index}"))?;
        let name = self.folder.node_name(index);
        step(&format!("remove {name}"), || {
            self.api()?.delete(&format!("/api/v1/nodes/{name}"))?;
            let processes: Vec<ProcessId> = node.processes.values().copied().chain([node.init]).collect();
            crate::process::stop(&processes, Duration::from_secs(5))?;
            cleanup::node(&name)?;
            cleanup::remove_folder(&self.folder.node(index))?;
            self.folder.save(&state)
        })
    }

    /// Loads archives into all nodes.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        let state = self.folder.expect()?;
        self.load_on(&state, &state.nodes.keys().copied().collect::<Vec<_>>(), archives)
    }

    fn load_on(&self, state: &State, indexes: &[u8], archives: &[PathBuf]) -> Result<()> {
        step(&format!("load {} images into {} nodes", archives.len(), indexes.len()), || {
            std::thread::scope(|scope| {
                let start = |index: &u8| {
                    let (index, init) = (*index, state.nodes[index].init);
                    scope.spawn(move || load::archives(&self.folder, index, init, archives))
                };
                let threads: Vec<_> = indexes.iter().map(start).collect();
                threads.into_iter().try_for_each(join)
            })
        })
    }

    /// Removes the cluster.
    pub fn down(&self) -> Result<()> {
        let _lock = self.folder.lock(&self.paths)?;
        if !self.leftovers()? {
            note(&format!("there is no cluster called {}", self.folder.name));
            return Ok(());
        }
        heading(&format!("Removing cluster {}", self.folder.name));
        cleanup::cluster(&self.folder)
    }

    /// The indexes of the nodes.
    pub fn nodes(&self) -> Result<Vec<u8>> {
        Ok(self.folder.expect()?.nodes.keys().copied().collect())
    }

    /// The names of all nodes' components and of the control plane's.
    pub fn components() -> impl Iterator<Item = &'static str> {
        control_plane::COMPONENTS.into_iter().chain(node::COMPONENTS)
    }
}
