//! Wires everything together, in the order in which a process comes to lead.

mod admin;
mod lead;
mod settings;

use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Flags;
use crate::engine::{Engine, Handle, Input};
use crate::identity::IdentityMetrics;
use crate::ipam::IpamMetrics;
use crate::memory;
use crate::publish::server::SessionMetrics;
use crate::status::{self, Feeds, KubernetesWriter, NoticeMetrics, Notices, StatusMetrics};
use crate::telemetry::{self, Health, Phase};
use crate::watch as watches;

/// Requests other than watches are given up when nothing is read for this long.
const SILENCE: Duration = Duration::from_secs(15);

/// What the leader's parts count.
#[derive(Clone, Debug)]
struct Metrics {
    identity: IdentityMetrics,
    ipam: IpamMetrics,
    status: StatusMetrics,
    notices: NoticeMetrics,
    sessions: SessionMetrics,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        Self {
            identity: IdentityMetrics::register(registry),
            ipam: IpamMetrics::register(registry),
            status: StatusMetrics::register(registry),
            notices: NoticeMetrics::register(registry),
            sessions: SessionMetrics::register(registry),
        }
    }
}

impl watches::Sink for Handle {
    async fn deliver(&self, input: Input) -> bool {
        self.send(input).await.is_ok()
    }
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or must not go on: the Lease was lost, or a task has ended that never should.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let config = flags.read_config()?;
    telemetry::init(&flags.log)?;
    info!(version = env!("CARGO_PKG_VERSION"), pod = flags.pod_name, node = flags.node_name, "axoneme-operator");
    for key in &config.unknown {
        warn!(key, "a setting that this version does not know changes nothing");
    }
    let stop = stop_on_signals()?;
    let health = Health::default();
    let api = kube::Config::infer().await.context("no API server is configured")?;
    info!(server = %api.cluster_url, "API server");
    let (engine, handle, outputs) =
        Engine::new(settings::engine(&config, &flags.pod_namespace, &api.cluster_url), random()?);
    let mut registry = Registry::default();
    let metrics = Metrics::register(registry.sub_registry_with_prefix("cilium_operator"));
    // What Cilium has nothing like.
    outputs.metrics.register(registry.sub_registry_with_prefix("axoneme_operator"));
    telemetry::serve(health.clone(), registry, &[config.operator.health_port, config.operator.metrics_port]).await?;

    admin::start(&flags, handle.clone(), health.clone())?;

    tokio::spawn(memory::give_back());
    let (watching, client) = clients(api)?;
    let engine = tokio::spawn(engine.run());
    let (problems, problems_out) = mpsc::unbounded_channel();
    let optional = watches::Optional {
        masquerade_agent: config.ip_masq_agent.enabled,
        cluster_network_policies: config.k8s_cluster_network_policy.enabled,
    };
    let wanted = handle.wanted();
    let mut watches = watches::spawn_all(&watching, &flags.pod_namespace, optional, wanted, &handle, &problems);
    let (lead, leading) = watch::channel(None);
    let (notices, notices_out) = Notices::channel();
    tokio::spawn(status::publish_notices(client.clone(), notices_out, metrics.notices.clone()));
    let reports = outputs.reports;
    let feeds = Feeds { reports, problems: problems_out, demands: outputs.demands.clone(), lead: leading };
    let status = tokio::spawn(status::report(
        KubernetesWriter::new(client.clone()),
        config.operator.endpoint_gc_interval,
        feeds,
        notices.clone(),
        metrics.status.clone(),
    ));
    let leader = lead::Leader {
        identity: format!("{}_{:08x}", flags.pod_name, u32::from_le_bytes(random()?)),
        flags,
        config,
        client,
        watching,
        engine: handle,
        demands: outputs.demands,
        lead,
        notices,
        health: health.clone(),
        metrics,
        stop,
    };
    tokio::select! {
        result = leader.run() => {
            health.enter(Phase::Stopping);
            result
        }
        ended = engine => bail!("the engine has ended: {ended:?}"),
        Some(ended) = watches.join_next() => bail!("a watch has ended: {ended:?}"),
        ended = status => bail!("the report of status has ended: {ended:?}"),
    }
}

/// A client for watches, which are silent for minutes, and one for everything else. Neither repeats a request by itself: whether
/// a write may be repeated is for its writer to say.
fn clients(mut config: kube::Config) -> anyhow::Result<(Client, Client)> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let watching = Client::try_from(config.clone())?;
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(SILENCE);
    Ok((watching, Client::try_from(config)?))
}

fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
        token.cancel();
    });
    Ok(stop)
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
    Ok(bytes)
}
