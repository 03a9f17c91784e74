//! Commands and what they call.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use axoneme_e2e::bench::{self, Set};
use axoneme_e2e::cluster::{Cluster, Shape, Up};
use axoneme_e2e::component::End;
use axoneme_e2e::conformance::{self, Suite};
use axoneme_e2e::paths::Paths;
use axoneme_e2e::progress::{heading, note};
use axoneme_e2e::state::Cni;
use axoneme_e2e::version::Version;
use axoneme_e2e::{ci, demo, gobuild, helm, images, leaks};
use clap::{Parser, Subcommand};

/// A real Kubernetes cluster on this machine: etcd, the control plane, and nodes made of namespaces.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// The cluster; several may run side by side.
    #[arg(long, global = true, default_value = "dev")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a cluster and prints the path of its kubeconfig.
    Up {
        #[command(flatten)]
        shape: Shape,
        /// Helm values, where this project is the CNI.
        #[arg(long)]
        values: Option<PathBuf>,
    },
    /// Removes a cluster with everything that belongs to it.
    Down,
    /// Adds or removes nodes of a running cluster.
    Node {
        #[command(subcommand)]
        change: NodeChange,
    },
    /// Ends a component in order and starts it again: etcd, apiserver, controller-manager, scheduler, containerd, kubelet, or
    /// a program that runs in a container.
    Restart {
        component: String,
        /// Only on these nodes (by number).
        #[arg(long)]
        node: Vec<u8>,
    },
    /// Kills a component, which stays away until it is restarted, or a container's program.
    Kill {
        component: String,
        /// Only on these nodes (by number).
        #[arg(long)]
        node: Vec<u8>,
    },
    /// Loads an image archive into all nodes.
    LoadImage { archive: PathBuf },
    /// Runs a command of this machine in a pod's network namespace.
    PodExec {
        /// NAMESPACE/POD
        pod: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Prints the path of the kubeconfig.
    Kubeconfig,
    /// Builds everything that comes from Go.
    Build,
    /// Builds the images of the operator and the node daemon, and prints where they are.
    Images,
    /// Loads the images and installs or upgrades the chart.
    Deploy {
        /// Helm values.
        #[arg(long)]
        values: Option<PathBuf>,
    },
    /// Shows an application of three tiers, and what a policy changes.
    Demo {
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        #[arg(long, value_enum, default_value = "axoneme")]
        cni: Cni,
    },
    /// Runs upstream's specs.
    Conformance {
        #[arg(long, value_enum, default_value = "netpol")]
        suite: Suite,
        /// Only the specs that match this too (a regular expression).
        #[arg(long)]
        focus: Option<String>,
    },
    /// Checks format, lints and licences.
    Lint,
    /// Runs everything that CI runs, on a cluster of its own.
    Test,
    /// Runs the property tests of policies with many random cases.
    Fuzz {
        #[arg(long, default_value_t = 100_000)]
        cases: u32,
        /// The same seed is the same cases.
        #[arg(long)]
        seed: u64,
    },
    /// Measures, and prints and writes figures.
    Bench {
        /// Only this set.
        #[arg(long, value_enum)]
        set: Option<Set>,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Fails, with a list, if anything of a cluster is left on this machine. Other clusters may run.
    Leaks {
        /// No cluster may run.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
enum NodeChange {
    /// Adds nodes.
    Add {
        #[arg(default_value_t = 1)]
        count: u8,
    },
    /// Removes the node with this number.
    Remove { index: u8 },
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::new(Paths::from_environment()?, &arguments.name)?;
    match arguments.command {
        Command::Up { shape, values } => {
            up(&cluster, shape, values.as_deref())?;
            println!("{}", cluster.folder.kubeconfig().display());
        }
        Command::Down => cluster.down()?,
        Command::Node { change: NodeChange::Add { count } } => cluster.add_nodes(count)?,
        Command::Node { change: NodeChange::Remove { index } } => cluster.remove_node(index)?,
        Command::Restart { component, node } => cluster.end_component(&component, &node, End::Restart)?,
        Command::Kill { component, node } => cluster.end_component(&component, &node, End::Kill)?,
        Command::LoadImage { archive } => cluster.load(&[archive])?,
        Command::PodExec { pod, command } => {
            let (namespace, pod) = pod.split_once('/').context("name the pod as NAMESPACE/POD")?;
            let mut process = cluster.pod_command(&cluster.api()?, namespace, pod, &command[0])?;
            return Err(process.args(&command[1..]).exec()).with_context(|| format!("cannot run {}", command[0]));
        }
        Command::Kubeconfig => {
            cluster.folder.expect()?;
            println!("{}", cluster.folder.kubeconfig().display());
        }
        Command::Build => gobuild::build_all(&cluster.paths, &gobuild::ALL)?,
        Command::Images => {
            let ours = Version::this(&cluster.paths)?.archives;
            ours.iter().chain(&images::test_images(&cluster.paths)?).for_each(|a| println!("{}", a.display()));
        }
        Command::Deploy { values } => helm::deploy(&cluster, &[], values.as_deref())?,
        Command::Demo { nodes, cni } => {
            // On a cluster that runs, too: what was changed since shall be seen.
            cluster.up(Shape { cni, ..Shape::of(nodes) })?;
            if cni == Cni::Axoneme {
                heading("Installing Axoneme");
                helm::deploy(&cluster, &[], None)?;
            }
            demo::run(&cluster)?;
        }
        Command::Conformance { suite, focus } => {
            let verdict = conformance::run(&cluster, suite, focus.as_deref())?;
            return Ok(if verdict.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Lint => ci::lint(&cluster)?,
        Command::Test => ci::test(&cluster)?,
        Command::Fuzz { cases, seed } => ci::fuzz(&cluster, cases, seed, "")?,
        Command::Bench { set, options } => {
            let hold = bench::run(&cluster, set, &options)?;
            return Ok(if hold { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Leaks { all } => return leaks(&cluster, all),
    }
    Ok(ExitCode::SUCCESS)
}

/// A cluster with its network installed.
fn up(cluster: &Cluster, shape: Shape, values: Option<&Path>) -> Result<()> {
    if cluster.up(shape)? == Up::Started && shape.cni == Cni::Axoneme {
        heading("Installing Axoneme");
        helm::deploy(cluster, &[], values)?;
    }
    Ok(())
}

fn leaks(cluster: &Cluster, all: bool) -> Result<ExitCode> {
    let found = leaks::find(&cluster.paths, (!all).then_some(&cluster.folder.name))?;
    if found.is_empty() {
        note("nothing is left");
        return Ok(ExitCode::SUCCESS);
    }
    heading("Left behind:");
    found.iter().for_each(|f| note(f));
    Ok(ExitCode::FAILURE)
}
