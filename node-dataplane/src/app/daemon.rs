//! The daemon's parts, and who is connected with whom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::admin::Admin;
use super::connection::{Connection, Link};
use super::memory;
use crate::config::Config;
use crate::desired::Desired;
use crate::desired::checkpoint::Checkpoint;
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
use crate::observe::verdicts::{Ring, Verdicts};
use crate::programs::Paths;
use crate::reconcile::policy::PolicyMaps;
use crate::reconcile::{Engine, Kernel, State, Task, metrics, state};
use crate::sync::dial::Tcp;
use crate::sync::session::Me;
use crate::sync::{self, Sync};
use crate::telemetry::health::Health;
use crate::telemetry::server::{Page, listen, serve};

/// How long an operator has to tell what is newer than the checkpoint, before the kernel is brought to what that says.
const HOLD: Duration = Duration::from_secs(2);
const PRESSURE: Duration = Duration::from_secs(60);

pub(super) fn socket(config: &Config) -> PathBuf {
    config.run_directory.join("cni.sock")
}

pub(super) fn admin_socket(config: &Config) -> PathBuf {
    config.run_directory.join(axoneme_admin::SOCKET)
}

pub(super) fn attachments(config: &Config) -> PathBuf {
    config.state_directory.join("attachments")
}

pub(super) fn deferred(config: &Config) -> PathBuf {
    config.run_directory.join("deferred")
}

/// The parts that outlive the start.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) state: State,
    pub(super) endpoints: Endpoints,
    pub(super) outbox: Outbox,
}

impl Daemon {
    /// Starts everything but the announcements.
    ///
    /// # Errors
    /// When a part cannot start; what ran in the kernel before runs on.
    pub(super) async fn start(
        config: &Config,
        node: &str,
        health: &Health,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let paths = Paths::new(&config.bpf_root);
        let links = Links::connect()?;
        let (state, inbox) = state::channel();
        let outbox = Outbox::open(node, config.state_directory.join("observations"))
            .with_context(|| format!("cannot write to {}", config.state_directory.display()))?;
        let reporter = Reporter::new(outbox.clone(), state.clone());

        let counts = Counts::default();
        let endpoints =
            endpoints(config, &paths, links.clone(), state.clone(), reporter.clone(), counts.endpoints.clone())?;
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
        let registry = counts.register(&paths)?;

        let engine = Engine::new(desired, indexes, kernel, now);
        let verdicts = Verdicts::default();
        tasks.spawn(Ring::open(&paths.maps())?.follow(verdicts.clone(), engine.names()));
        let task = Task::new(inbox, engine, Some(checkpoint), operators.clone(), hold, counts.reconciler);
        tasks.spawn(task.run());
        let link = Link::default();
        let client = Sync::new(
            sync_config(config, node),
            Box::new(Tcp),
            operators,
            state.clone(),
            outbox.clone(),
            Connection { health: health.clone(), reporter, link: link.clone() },
            counts.connection,
        )?;
        tasks.spawn(client.run());
        tasks.spawn(measure(Pinned::open(&paths.maps())?, counts.pressure.clone()));
        let listener = server::listen(&socket(config))?;
        match endpoints.detach_deferred().await {
            Ok(detached) => tracing::info!(detached, "attachments whose end came while there was no daemon"),
            Err(err) => tracing::error!(%err, "what was detached while there was no daemon cannot be read"),
        }
        tasks.spawn(server::serve(listener, endpoints.clone()));
        let admin = Admin {
            node: node.to_owned(),
            state: state.clone(),
            endpoints: endpoints.clone(),
            health: health.clone(),
            link,
            pressure: counts.pressure,
            verdicts,
            started: now,
        };
        let questions = axoneme_admin::server::listen(&admin_socket(config))
            .with_context(|| format!("cannot listen in {}", config.run_directory.display()))?;
        tasks.spawn(axoneme_admin::server::serve(questions, admin));
        let port = listen(config.metrics_port).with_context(|| format!("metrics port {}", config.metrics_port))?;
        tasks.spawn(serve(port, Page::Metrics(Arc::new(registry))));
        Ok(Self { state, endpoints, outbox })
    }
}

/// What the parts count.
#[derive(Debug, Default)]
struct Counts {
    endpoints: endpoint::metrics::Metrics,
    reconciler: metrics::Metrics,
    connection: sync::metrics::Metrics,
    pressure: MapPressure,
}

impl Counts {
    /// All of it, and what the programs count, for the metrics page.
    fn register(&self, paths: &Paths) -> anyhow::Result<Registry> {
        let mut registry = Registry::default();
        self.reconciler.register(&mut registry);
        self.endpoints.register(&mut registry);
        self.connection.register(&mut registry);
        self.pressure.register(&mut registry);
        registry.register_collector(Box::new(Packets(per_cpu::Counters::open(&paths.maps())?)));
        Ok(registry)
    }
}

fn endpoints(
    config: &Config,
    paths: &Paths,
    links: Links,
    state: State,
    reporter: Reporter,
    metrics: endpoint::metrics::Metrics,
) -> anyhow::Result<Endpoints> {
    let maps = Pinned::open(&paths.maps())?;
    Ok(Endpoints::new(Parts {
        links,
        paths: paths.clone(),
        store: Store::open(attachments(config))?,
        maps: EndpointMaps {
            endpoints: Box::new(maps.endpoints),
            addresses: Box::new(maps.addresses),
            bandwidth: Box::new(maps.bandwidth),
        },
        pods: Arc::new(state),
        reports: Arc::new(reporter),
        deferred: deferred(config),
        metrics,
        wait: Duration::from_secs(config.cni.wait_seconds),
    }))
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
        uplinks: Box::new(maps.uplinks),
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
        memory::trim();
    }
}
