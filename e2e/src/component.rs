//! Faults on purpose: killing and restarting components, and processes of pods.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::{Hierarchies, processes_below};
use crate::cluster::Cluster;
use crate::control_plane::{self, ControlPlane};
use crate::node::{self, Node};
use crate::process::{self, ProcessId, wait_until};
use crate::progress::step;

/// How a component ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As by a crash. Components of the harness stay away; containers are restarted by their kubelet.
    Kill,
    /// In order, and then started again.
    Restart,
}

impl Cluster {
    /// Ends `component`: one of the control plane, one of `nodes` (all of them if that is empty), or else the program of
    /// that name in containers of `nodes`.
    pub fn end_component(&self, component: &str, nodes: &[u8], end: End) -> Result<()> {
        let _lock = self.folder.lock(&self.paths)?;
        let all = self.nodes()?;
        if let Some(unknown) = nodes.iter().find(|n| !all.contains(n)) {
            bail!("there is no node {unknown}");
        }
        let nodes = if nodes.is_empty() { &all } else { nodes };
        let verb = if end == End::Kill { "kill" } else { "restart" };
        step(&format!("{verb} {component}"), || {
            if control_plane::COMPONENTS.contains(&component) {
                self.end_control_plane(component, end)
            } else if node::COMPONENTS.contains(&component) {
                nodes.iter().try_for_each(|index| self.end_on_node(component, *index, end))
            } else {
                self.end_in_pods(component, nodes, end)
            }
        })
    }

    fn end_control_plane(&self, component: &str, end: End) -> Result<()> {
        let mut state = self.folder.expect()?;
        if let Some(process) = state.control_plane.get(component) {
            finish(&[*process], end)?;
        }
        if end == End::Restart {
            let control_plane = ControlPlane::new(&self.paths, &self.folder, state.addresses())?;
            let process = control_plane.start(component)?;
            state.control_plane.insert(component.to_owned(), process);
            self.folder.save(&state)?;
            if component == "apiserver" {
                control_plane.wait_ready(process)?;
            }
        }
        Ok(())
    }

    fn end_on_node(&self, component: &str, index: u8, end: End) -> Result<()> {
        let mut state = self.folder.expect()?;
        let node = Node::new(&self.paths, &self.folder, &state, index);
        let entry = state.nodes.get_mut(&index).with_context(|| format!("there is no node {index}"))?;
        if let Some(process) = entry.processes.get(component) {
            finish(&[*process], end)?;
        }
        if end == End::Restart {
            let process = node.start(entry.init, component)?;
            entry.processes.insert(component.to_owned(), process);
            if component == "containerd" {
                node.wait_containerd(entry.init)?;
            }
            self.folder.save(&state)?;
        }
        Ok(())
    }

    fn end_in_pods(&self, program: &str, nodes: &[u8], end: End) -> Result<()> {
        let before = self.programs(program, nodes)?;
        if before.is_empty() {
            let known: Vec<_> = Self::components().collect();
            bail!("{program} is no component ({}) and runs in no container of the nodes", known.join(", "));
        }
        finish(&before, end)?;
        // A container is started again by its kubelet, after a back-off that grows with every crash.
        if end == End::Restart
            && !wait_until(Duration::from_secs(120), || {
                self.programs(program, nodes).is_ok_and(|p| p.len() >= before.len())
            })
        {
            bail!("{program} was not started again within two minutes");
        }
        Ok(())
    }

    /// The processes of `nodes`' containers whose program is called `program`.
    pub fn programs(&self, program: &str, nodes: &[u8]) -> Result<Vec<ProcessId>> {
        let cgroups = Hierarchies::find()?;
        let pods = |index: &u8| processes_below(&cgroups.v2().join(self.folder.node_name(*index)).join("kubepods"));
        Ok(nodes.iter().flat_map(pods).filter(|p| p.name() == program).collect())
    }
}

fn finish(processes: &[ProcessId], end: End) -> Result<()> {
    if end == End::Kill {
        processes.iter().for_each(|p| p.signal(libc::SIGKILL));
    }
    process::stop(processes, Duration::from_secs(5))
}
