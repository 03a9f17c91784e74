//! Answers what people ask on the admin socket.

use axoneme_admin::node::{Counts, Failure, Progress, Status, subject};
use axoneme_admin::server::{Answers, NoAnswer};
use axoneme_proto::nodesync::{FailureCode, Table};
use serde::Serialize;
use tokio::time::Instant;

use super::connection::Link;
use crate::endpoint::Endpoints;
use crate::observe::pressure::MapPressure;
use crate::observe::verdicts::Verdicts;
use crate::reconcile::ops::MapError;
use crate::reconcile::state::{State, Stopped};
use crate::reconcile::{self, Engine};
use crate::telemetry::health::Health;

/// Failing rows that are told; a full map has thousands.
const FAILURES: usize = 20;

/// What an answer is made of.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) node: String,
    pub(super) state: State,
    pub(super) endpoints: Endpoints,
    pub(super) health: Health,
    pub(super) link: Link,
    pub(super) pressure: MapPressure,
    pub(super) verdicts: Verdicts,
    pub(super) started: Instant,
}

impl Answers for Admin {
    async fn answer(&self, about: &str, _: &str) -> Result<Vec<u8>, NoAnswer> {
        match about {
            subject::STATUS => json(&self.status().await?),
            subject::ENDPOINTS => {
                let attached = self.endpoints.in_kernel().map_err(unreadable)?;
                json(&self.look(|engine| engine.view_endpoints(attached)).await?)
            }
            subject::IDENTITIES => json(&self.look(Engine::view_identities).await?.map_err(unreadable)?),
            subject::NODES => json(&self.look(Engine::view_nodes).await?.map_err(unreadable)?),
            subject::POLICIES => json(&self.look(Engine::view_policies).await?.map_err(unreadable)?),
            subject::SERVICES => json(&self.look(Engine::view_services).await?.map_err(unreadable)?),
            subject::VERDICTS => {
                let told = self.verdicts.newest();
                json(&self.look(move |engine| engine.view_verdicts(&told)).await?)
            }
            _ => Err(NoAnswer::Unknown("status, endpoints, identities, nodes, policies, services, verdicts".into())),
        }
    }
}

impl Admin {
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Engine) -> T + Send + 'static) -> Result<T, NoAnswer> {
        self.state.look(look).await.map_err(stopping)
    }

    async fn status(&self) -> Result<Status, NoAnswer> {
        let (counts, now) = self.look(|engine| (counts(engine), engine.status())).await?;
        let operators = self.state.known_operators().await.map_err(stopping)?;
        let report = self.health.watch().borrow().clone();
        Ok(Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: crate::programs::kernel::version(),
            ready: report.ready,
            problems: report.lines(),
            stream: self.link.stream(operators),
            progress: Progress {
                epoch: now.epoch.iter().map(|byte| format!("{byte:02x}")).collect(),
                received: now.received,
                attempted: now.attempted,
                retry_low_watermark: now.retry_low_watermark,
                failing: now.failing,
            },
            failures: failures(&now),
            counts,
            maps: self.pressure.latest(),
            uptime_seconds: self.started.elapsed().as_secs(),
        })
    }
}

fn counts(engine: &Engine) -> Counts {
    let desired = engine.desired();
    let counts = engine.counts();
    Counts { rows: desired.store().len(), nodes: desired.index().nodes().count(), ..counts }
}

fn failures(status: &reconcile::Status) -> Vec<Failure> {
    let failures = status.failures.values().take(FAILURES);
    let told = failures.map(|failure| {
        let key = failure.key.clone().unwrap_or_default();
        let table =
            Table::try_from(key.table).map_or_else(|_| key.table.to_string(), |table| name(table.as_str_name()));
        let code = FailureCode::try_from(failure.code);
        Failure {
            scope: key.scope,
            table,
            key: key.key,
            revision: failure.revision,
            code: code.map_or_else(|_| failure.code.to_string(), |code| name(code.as_str_name())),
            message: failure.message.clone(),
        }
    });
    told.collect()
}

/// `FAILURE_CODE_CAPACITY` is "capacity".
fn name(constant: &str) -> String {
    constant.trim_start_matches("FAILURE_CODE_").trim_start_matches("TABLE_").to_ascii_lowercase()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, NoAnswer> {
    Ok(serde_json::to_vec(value)?)
}

fn stopping(stopped: Stopped) -> NoAnswer {
    NoAnswer::Unavailable(stopped.to_string())
}

fn unreadable(error: MapError) -> NoAnswer {
    NoAnswer::Unavailable(format!("{:#}", anyhow::Error::from(error)))
}
