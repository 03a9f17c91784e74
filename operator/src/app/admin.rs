//! Answers what people ask on the admin socket.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use axoneme_admin::explain::{Explanation, Flow};
use axoneme_admin::operator::{Status, subject};
use axoneme_admin::server::{Answers, NoAnswer, listen, serve};

use crate::config::Flags;
use crate::engine::Handle;
use crate::telemetry::{Health, Phase};

/// What an answer is made of.
#[derive(Debug)]
struct Admin {
    pod: String,
    node: String,
    engine: Handle,
    health: Health,
    started: Instant,
}

/// Serves for as long as the process lives.
///
/// # Errors
/// When the socket's directory refuses.
pub(super) fn start(flags: &Flags, engine: Handle, health: Health) -> anyhow::Result<()> {
    let admin =
        Admin { pod: flags.pod_name.clone(), node: flags.node_name.clone(), engine, health, started: Instant::now() };
    let socket: &Path = &flags.admin_socket;
    let listener = listen(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    tokio::spawn(serve(listener, admin));
    Ok(())
}

impl Answers for Admin {
    async fn answer(&self, about: &str, query: &str) -> Result<Vec<u8>, NoAnswer> {
        match about {
            subject::STATUS => Ok(serde_json::to_vec(&self.status().await?)?),
            subject::EXPLAIN => Ok(serde_json::to_vec(&self.explain(query).await?)?),
            _ => Err(NoAnswer::Unknown(format!("{}, {}", subject::STATUS, subject::EXPLAIN))),
        }
    }
}

impl Admin {
    async fn explain(&self, query: &str) -> Result<Explanation, NoAnswer> {
        let flow = Flow::from_query(query).map_err(|error| NoAnswer::Unclear(format!("from, to and port: {error}")))?;
        if !self.engine.is_complete() {
            return Err(NoAnswer::Unavailable("not all objects are read yet".to_owned()));
        }
        let explained = self.engine.explain(flow).await.map_err(|error| NoAnswer::Unavailable(error.to_string()))?;
        explained.map_err(|unclear| NoAnswer::Unclear(unclear.to_string()))
    }

    async fn status(&self) -> Result<Status, NoAnswer> {
        let phase = self.health.phase();
        let leads = *phase == Phase::Leading;
        let ended = |error: crate::engine::EngineEnded| NoAnswer::Unavailable(error.to_string());
        // Nodes say nothing to a replica that stands by.
        let nodes = if leads { self.engine.followers().await.map_err(ended)? } else { Vec::new() };
        let (epoch, revision, rows) =
            self.engine.with_journal(|journal| (journal.epoch().to_vec(), journal.revision(), journal.rows().count()));
        Ok(Status {
            pod: self.pod.clone(),
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: phase.to_string(),
            ready: phase.is_ready(),
            leads,
            inputs_complete: self.engine.is_complete(),
            epoch: epoch.iter().map(|byte| format!("{byte:02x}")).collect(),
            revision,
            rows,
            nodes,
            uptime_seconds: self.started.elapsed().as_secs(),
        })
    }
}
