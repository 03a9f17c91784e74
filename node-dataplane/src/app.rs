//! Wires the daemon and runs it until it is told to stop.
//!
//! Start: settings, kernel, programs (in a process of its own), maps, attachments, checkpoint; then everything at once: the
//! reconcilers, the operator, CNI. The runtime is told of the network when pods can be attached. The end leaves everything in
//! the kernel as it is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axoneme_proto::nodesync::NodeReport;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{Config, Flags};
use crate::desired::Desired;
use crate::desired::checkpoint::Checkpoint;
use crate::endpoint::conflist::{Install, PLUGIN};
use crate::endpoint::store::Store;
use crate::endpoint::{self, EndpointMaps, Endpoints, Parts, server};
use crate::link::Links;
use crate::link::devices::Devices;
use crate::link::monitor::Monitor;
use crate::link::uplink::Patterns;
use crate::maps::{Pinned, per_cpu};
use crate::observe::counters::Packets;
use crate::observe::outbox::Outbox;
use crate::observe::pressure::MapPressure;
use crate::observe::reporter::Reporter;
use crate::programs::{self, Paths};
use crate::reconcile::policy::PolicyMaps;
use crate::reconcile::{Engine, Kernel, State, Task, metrics, task};
use crate::sync::dial::Tcp;
use crate::sync::session::Me;
use crate::sync::{self, Sync, SyncError};
use crate::telemetry::health::Health;
use crate::telemetry::server::{Page, listen, serve};

/// How long an operator has to tell what is newer than the checkpoint, before the kernel is brought to what that says.
const HOLD: Duration = Duration::from_secs(2);
/// How long another network's configuration may stand beside this one's.
const CONFLIST: Duration = Duration::from_secs(5);
const PRESSURE: Duration = Duration::from_secs(60);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, with everything that led to it. What ran in the kernel before runs on.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let config = Config::read(&flags.config)?;
    let node = &flags.node_name;
    tracing::info!(node, version = env!("CARGO_PKG_VERSION"), "starting");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    mount_sysctls(&config.sysctl_root)?;
    std::fs::create_dir_all(&config.state_directory)
        .with_context(|| format!("cannot make {}", config.state_directory.display()))?;

    let health = Health::default();
    let mut tasks = JoinSet::new();
    let port = listen(config.health_port).with_context(|| format!("health port {}", config.health_port))?;
    tasks.spawn(serve(port, Page::Health(health.clone())));

    tokio::select! {
        loaded = load(&flags, &config) => loaded?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let daemon = Daemon::start(&config, node, &health, &mut tasks).await?;
    tasks.spawn(daemon.clone().announce(install(&config)?, health.clone()));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = tasks.join_next() => {
            if let Some(Err(err)) = ended {
                bail!("a part of the daemon failed: {err}");
            }
            bail!("a part of the daemon ended");
        }
    }
    tracing::info!("stopping; the kernel stays as it is");
    daemon.endpoints.finish().await;
    daemon.state.stop().await;
    Ok(())
}

/// Loads programs in a process of its own, because what parsing takes would stay with the daemon; unless an earlier run did.
async fn load(flags: &Flags, config: &Config) -> anyhow::Result<()> {
    if programs::is_loaded(&config.load()) {
        tracing::info!("programs are loaded already");
        return Ok(());
    }
    programs::kernel::check()?;
    let binary = std::env::current_exe().context("cannot find the daemon's own binary")?;
    let status = tokio::process::Command::new(binary)
        .arg("load")
        .arg("--config")
        .arg(&flags.config)
        .arg("--log")
        .arg(&flags.log)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("cannot run the loader")?;
    if !status.success() {
        bail!("the loader failed ({status}); its reason stands above");
    }
    Ok(())
}

/// A container's own /proc/sys is read-only: the host's is put in its place.
fn mount_sysctls(root: &Path) -> anyhow::Result<()> {
    let own = Path::new("/proc/sys");
    if root == own {
        return Ok(());
    }
    let net = root.join("net");
    nix::mount::mount(Some(&net), &own.join("net"), None::<&Path>, nix::mount::MsFlags::MS_BIND, None::<&Path>)
        .with_context(|| format!("cannot mount {} at /proc/sys/net", net.display()))
}

fn install(config: &Config) -> anyhow::Result<Install> {
    let plugin = if config.cni.plugin.as_os_str().is_empty() {
        std::env::current_exe().context("cannot find the daemon's own binary")?.with_file_name(PLUGIN)
    } else {
        config.cni.plugin.clone()
    };
    Ok(Install {
        bin_directory: config.cni.bin_directory.clone(),
        conf_directory: config.cni.conf_directory.clone(),
        socket: socket(config),
        attachments: attachments(config),
        deferred: deferred(config),
        exclusive: config.cni.exclusive,
        conflist: config.cni.conflist(),
        plugin,
    })
}

fn socket(config: &Config) -> PathBuf {
    config.run_directory.join("cni.sock")
}

fn attachments(config: &Config) -> PathBuf {
    config.state_directory.join("attachments")
}

fn deferred(config: &Config) -> PathBuf {
    config.run_directory.join("deferred")
}

/// The parts that outlive the start.
#[derive(Clone, Debug)]
struct Daemon {
    state: State,
    endpoints: Endpoints,
    outbox: Outbox,
}

impl Daemon {
    async fn start(config: &Config, node: &str, health: &Health, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let paths = Paths::new(&config.bpf_root);
        let links = Links::connect()?;
        let (state, inbox) = task::channel();
        let outbox = Outbox::open(node, config.state_directory.join("observations"))
            .with_context(|| format!("cannot write to {}", config.state_directory.display()))?;
        let reporter = Reporter::new(outbox.clone(), state.clone());

        let own = Pinned::open(&paths.maps())?;
        let cni = endpoint::metrics::Metrics::default();
        let endpoints = Endpoints::new(Parts {
            links: links.clone(),
            paths: paths.clone(),
            store: Store::open(attachments(config))?,
            maps: EndpointMaps {
                endpoints: Box::new(own.endpoints),
                addresses: Box::new(own.addresses),
                bandwidth: Box::new(own.bandwidth),
            },
            pods: Arc::new(state.clone()),
            reports: Arc::new(reporter.clone()),
            deferred: deferred(config),
            metrics: cni.clone(),
            wait: Duration::from_secs(config.cni.wait_seconds),
        });
        tasks.spawn(endpoints.clone().follow_network());
        let restored = endpoints.restore().await;
        tracing::info!(?restored, "attachments");

        let checkpoint = Checkpoint::new(config.state_directory.join("checkpoint"));
        let (desired, operators, indexes) = restore(&checkpoint, node);
        let kernel = kernel(&paths, links, Patterns::new(config.devices.clone()), endpoints.clone())?;
        tasks.spawn(follow(Monitor::new()?, state.clone()));
        let now = Instant::now();
        // What is in the kernel is what this checkpoint says, or it is older.
        let older = desired.cursor().is_some_and(|cursor| !checkpoint.is_newest(cursor));
        let hold = older.then_some(now + HOLD);
        let mut registry = Registry::default();
        let counted = metrics::Metrics::default();
        counted.register(&mut registry);
        cni.register(&mut registry);
        let connection = sync::metrics::Metrics::default();
        connection.register(&mut registry);
        let pressure = MapPressure::default();
        pressure.register(&mut registry);
        registry.register_collector(Box::new(Packets(per_cpu::Counters::open(&paths.maps())?)));

        let engine = Engine::new(desired, indexes, kernel, now);
        let task = Task::new(inbox, engine, Some(checkpoint), operators.clone(), hold, counted);
        tasks.spawn(task.run());
        let client = Sync::new(
            sync_config(config, node),
            Box::new(Tcp),
            operators,
            state.clone(),
            outbox.clone(),
            Connection { health: health.clone(), reporter },
            connection,
        )?;
        tasks.spawn(client.run());
        tasks.spawn(measure(Pinned::open(&paths.maps())?, pressure));
        let listener = server::listen(&socket(config))?;
        match endpoints.detach_deferred().await {
            Ok(detached) => tracing::info!(detached, "attachments whose end came while there was no daemon"),
            Err(err) => tracing::error!(%err, "what was detached while there was no daemon cannot be read"),
        }
        tasks.spawn(server::serve(listener, endpoints.clone()));
        let port = listen(config.metrics_port).with_context(|| format!("metrics port {}", config.metrics_port))?;
        tasks.spawn(serve(port, Page::Metrics(Arc::new(registry))));
        Ok(Self { state, endpoints, outbox })
    }

    /// Says how the node is, to the runtime, the operator and whoever asks, for as long as the daemon runs.
    async fn announce(self, install: Install, health: Health) {
        let mut status = self.state.status();
        let mut report = health.watch();
        let mut told = None;
        let mut conflist = interval(CONFLIST);
        conflist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (works, problems) = {
                let status = status.borrow_and_update();
                (status.network && status.applied, status.problems.clone())
            };
            health.problems("node", problems);
            if works && !report.borrow().ready {
                self.ready(&install, &health).await;
            }
            let now = report.borrow_and_update().clone();
            let now = NodeReport { problems: now.lines(), ready: now.ready };
            let ready = now.ready;
            if told.as_ref() != Some(&now) {
                self.outbox.node_report(now.clone());
                told = Some(now);
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    // The task ends when the daemon stops; whoever stops it ends this one.
                    std::future::pending::<()>().await;
                },
                _ = report.changed() => {}
                _ = conflist.tick(), if ready => configure(&install, &health),
            }
        }
    }

    async fn ready(&self, install: &Install, health: &Health) {
        match install.run() {
            Ok(_) => {
                health.problems("cni", Vec::new());
                health.ready();
                tracing::info!("ready: pods can be attached");
            }
            Err(err) => {
                let err = anyhow::Error::from(err);
                tracing::error!(err = format!("{err:#}"), "the runtime cannot be told of the network");
                health.problems("cni", vec![format!("{err:#}")]);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if let Err(err) = self.endpoints.prune().await {
            tracing::warn!(err = &err as &dyn std::error::Error, "leftovers of dead attachments stay");
        }
    }
}

/// Others may have written theirs since.
fn configure(install: &Install, health: &Health) {
    match install.configure() {
        Ok(_) => health.problems("cni", Vec::new()),
        Err(err) => health.problems("cni", vec![format!("{:#}", anyhow::Error::from(err))]),
    }
}

fn restore(checkpoint: &Checkpoint, node: &str) -> (Desired, Vec<String>, BTreeMap<u32, u32>) {
    match checkpoint.read(node) {
        Ok(Some((desired, header))) => {
            tracing::info!(rows = desired.store().len(), revision = desired.revision(), "checkpoint restored");
            let indexes = header.policies.iter().map(|one| (one.identity, one.index)).collect();
            return (desired, header.operators, indexes);
        }
        Ok(None) => {}
        Err(err) => tracing::error!(err = &err as &dyn std::error::Error, "starting without a checkpoint"),
    }
    (Desired::new(node), Vec::new(), BTreeMap::new())
}

/// Has the network looked at whenever somebody changes devices, addresses or routes.
async fn follow(mut monitor: Monitor, state: State) {
    loop {
        match monitor.changed().await {
            Ok(()) => state.devices_changed(),
            // Then the network is looked at every minute only, and whenever the operator says something.
            Err(err) => {
                tracing::error!(%err, "changes of devices are not told any more");
                std::future::pending::<()>().await;
            }
        }
    }
}

fn kernel(paths: &Paths, links: Links, uplinks: Patterns, endpoints: Endpoints) -> anyhow::Result<Kernel> {
    let maps = Pinned::open(&paths.maps())?;
    Ok(Kernel {
        config: Box::new(maps.config),
        no_masquerade: Box::new(maps.no_masquerade),
        addresses: Box::new(maps.addresses),
        cidrs: Box::new(maps.cidrs),
        policies: PolicyMaps {
            policies: Box::new(maps.policies),
            generation: Box::new(maps.generation),
            rules: Box::new(maps.policy_rules),
            classes: Box::new(maps.policy_classes),
        },
        services: Box::new(maps.services),
        backends: Box::new(maps.service_backends),
        devices: Box::new(Devices::new(links, paths.clone(), uplinks).context("programs of devices")?),
        endpoints: Arc::new(endpoints),
    })
}

fn sync_config(config: &Config, node: &str) -> sync::Config {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    sync::Config {
        me: Me {
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.trim().to_owned(),
        },
        operators: config.operators_directory.clone(),
        token: config.token_file.clone(),
        state: config.state_directory.clone(),
    }
}

async fn measure(maps: Pinned, pressure: MapPressure) {
    let mut ticks = interval(PRESSURE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pressure.measure(&maps.endpoints);
        pressure.measure(&maps.addresses);
        pressure.measure(&maps.cidrs);
        pressure.measure(&maps.policy_rules);
        pressure.measure(&maps.policy_classes);
        pressure.measure(&maps.services);
        pressure.measure(&maps.service_backends);
        trim();
    }
}

/// Gives memory that a snapshot took back to the kernel.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// One arena: the daemon is one thread, and what the pool for files frees is to be used again.
pub fn tune_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt is called before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// What follows from the connection.
#[derive(Debug)]
struct Connection {
    health: Health,
    reporter: Reporter,
}

impl sync::Watch for Connection {
    fn connected(&mut self, new_journal: bool) {
        self.health.problems("operator", Vec::new());
        if new_journal {
            self.reporter.repeat();
        }
    }

    fn disconnected(&mut self, why: &SyncError) {
        let mut text = why.to_string();
        let mut source = std::error::Error::source(why);
        while let Some(cause) = source.take() {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        self.health.problems("operator", vec![text]);
    }
}

/// Loads and attaches programs; prints what was done as JSON.
///
/// # Errors
/// When the kernel refuses; what ran before runs on.
pub fn load_programs(flags: &Flags) -> anyhow::Result<()> {
    let config = Config::read(&flags.config)?;
    let report = programs::load(&config.load())?;
    let report = serde_json::to_string(&report)?;
    tracing::info!(report, "programs loaded");
    Ok(())
}

/// A runtime of one thread; what blocks on the disk has few of its own.
///
/// # Errors
/// When the kernel refuses.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
}
