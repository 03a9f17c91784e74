//! Standing by, leading, and the end of it.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Metrics;
use crate::config::{ConfigFile, Flags, IpamMode};
use crate::engine::{self, Demands};
use crate::identity::{KubernetesRegistry, allocate_identities, collect_identities};
use crate::ipam::{self, Allocator, Cidrs, KubernetesLedgers, Orphans};
use crate::leader::{self, Candidate, Directory, Held, Rival, Tenure};
use crate::marks::{Marks, mark_nodes};
use crate::publish::join::{KubernetesVouch, Registrar};
use crate::publish::server::Service;
use crate::publish::tls::{Authority, ServerTls};
use crate::status::{Notice, Notices, Reference, Regarding, report_unimplemented};
use crate::telemetry::{Health, Phase, listen};

/// Between two attempts at a step of preparation.
const RETRY: Duration = Duration::from_secs(2);

/// How often it is looked for another operator of the same objects.
const RIVAL: Duration = Duration::from_secs(10);

/// How often the server's certificate is issued anew.
const RENEW_TLS: Duration = Duration::from_secs(86_400);

/// So long it is waited for pods without an identity before nodes are served.
const IDENTIFIED: Duration = Duration::from_secs(10);

/// Sessions have this long to end after they were told.
const DRAIN: Duration = Duration::from_secs(3);

/// A process that would lead.
pub(super) struct Leader {
    pub(super) identity: String,
    pub(super) flags: Flags,
    pub(super) config: ConfigFile,
    pub(super) client: Client,
    /// For requests that last.
    pub(super) watching: Client,
    pub(super) engine: engine::Handle,
    pub(super) demands: watch::Receiver<Arc<Demands>>,
    pub(super) lead: watch::Sender<Option<Tenure>>,
    pub(super) notices: Notices,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
}

impl Leader {
    /// Stands by, leads, and gives the Lease away when it is told to stop.
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.alone() => {}
            () = self.stop.cancelled() => return Ok(()),
        }
        let namespace = &self.flags.pod_namespace;
        let candidate = Candidate::new(self.client.clone(), namespace, self.identity.clone());
        let standing_by = |holder: &str| self.health.enter(Phase::StandingBy { leader: holder.to_owned() });
        let mut held = tokio::select! {
            held = candidate.lead(standing_by) => held,
            () = self.stop.cancelled() => return Ok(()),
        };
        let drained = CancellationToken::new();
        let tenure = held.tenure();
        let ended = tokio::select! {
            lost = held.keep() => {
                self.lead.send_replace(None);
                // The Lease is somebody else's, and so is everything that is still to be written.
                bail!("this process does not lead any more: {lost}");
            }
            rival = self.rival() => Err(anyhow::Error::from(rival)),
            result = async {
                // One that has stood by has last looked when it was started.
                self.no_rival().await?;
                self.serve(&tenure, &drained).await
            } => result,
            () = self.stop.cancelled() => Ok(()),
        };
        // Writers have ended with `serve`.
        self.lead.send_replace(None);
        self.health.enter(Phase::Stopping);
        self.finish(held, drained).await;
        ended
    }

    /// The Lease is free before nodes are sent away, so that they find the next leader.
    async fn finish(&self, held: Held, drained: CancellationToken) {
        held.release().await;
        drained.cancel();
        tokio::time::sleep(DRAIN.min(Duration::from_millis(500))).await;
    }

    /// Waits until no other operator manages the same objects.
    async fn alone(&self) {
        loop {
            match leader::rival(&self.client, &self.flags.pod_namespace).await {
                Ok(None) => return,
                Ok(Some(rival)) => self.say_rival(&rival),
                Err(error) => {
                    let reason = format!("the API server does not answer: {error}");
                    warn!(%error, "it cannot be seen whether another operator leads");
                    self.health.enter(Phase::Refusing { reason });
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Waits for another operator to appear.
    async fn rival(&self) -> Rival {
        loop {
            tokio::time::sleep(RIVAL).await;
            if let Err(rival) = self.no_rival().await {
                return rival;
            }
        }
    }

    /// Fails when another operator manages the same objects. An API server that does not answer is no rival.
    async fn no_rival(&self) -> Result<(), Rival> {
        if let Ok(Some(rival)) = leader::rival(&self.client, &self.flags.pod_namespace).await {
            self.say_rival(&rival);
            return Err(rival);
        }
        Ok(())
    }

    fn say_rival(&self, rival: &Rival) {
        error!(%rival, "another operator is at work");
        self.health.enter(Phase::Refusing { reason: rival.to_string() });
        let Flags { pod_namespace, pod_name, pod_uid, .. } = self.flags.clone();
        self.notices.say(Notice {
            about: Regarding::Known(Reference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: Some(pod_namespace),
                name: pod_name,
                uid: pod_uid,
            }),
            warning: true,
            reason: "OtherOperator",
            message: rival.to_string(),
        });
    }

    /// All that a leader does. Ends only by an error; dropped, it stops all writing.
    async fn serve(&self, tenure: &Tenure, drained: &CancellationToken) -> anyhow::Result<()> {
        let client = &self.client;
        self.step("definitions", || leader::apply_definitions(client)).await;
        let authority = self.step("authority", || leader::ensure_authority(client, &self.flags.pod_namespace)).await;
        let authority = watch::Sender::new(authority);
        let operators = watch::Sender::new(Vec::new());
        self.step("directory", || {
            leader::keep_directory(client.clone(), self.watching.clone(), self.directory(&authority, &operators))
        })
        .await;
        let listener = self.step("port", || listen(self.config.operator.port)).await;
        self.health.enter(Phase::Preparing { step: "inputs" });
        self.engine.complete().await?;

        if self.config.ipam.mode == IpamMode::MultiPool {
            self.step("pools", || ipam::create_pools(client, &self.config.ipam.operator.auto_create)).await;
        }
        let mut tasks = JoinSet::new();
        let allocator = self
            .step("ledgers", || {
                let cidrs = Cidrs::new(self.config.ipam.operator.clone());
                let ledgers = KubernetesLedgers::new(client.clone());
                let orphans = Orphans::new(self.config.operator.node_gc_interval);
                let (notices, metrics) = (self.notices.clone(), self.metrics.ipam.clone());
                Allocator::new(ledgers, cidrs, orphans, tenure.clone(), notices, metrics)
            })
            .await;
        tasks.spawn(allocator.run(self.demands.clone()));
        tasks.spawn(allocate_identities(
            self.demands.clone(),
            KubernetesRegistry::new(client.clone()),
            self.config.cluster.id,
            tenure.clone(),
            self.metrics.identity.clone(),
        ));
        tasks.spawn(collect_identities(
            self.demands.clone(),
            KubernetesRegistry::new(client.clone()),
            self.config.operator.identity_gc_interval,
            tenure.clone(),
            self.metrics.identity.clone(),
        ));
        tasks.spawn(mark_nodes(client.clone(), self.watching.clone(), self.marks(), tenure.clone()));
        tasks.spawn(report_unimplemented(client.clone(), self.watching.clone(), self.notices.clone()));
        self.identified().await;
        self.lead.send_replace(Some(tenure.clone()));

        let tls = ServerTls::new(&authority.borrow())?;
        tasks.spawn(renew_tls(tls.clone(), authority.subscribe()));
        let service = Service::new(
            self.engine.clone(),
            self.registrar(authority.subscribe()),
            operators.subscribe(),
            self.metrics.sessions.clone(),
            drained.clone(),
        );
        let namespace = self.flags.pod_namespace.clone();
        tasks.spawn(leader::follow_authority(client.clone(), namespace, leader::CA_INTERVAL, authority));
        // Not one of the tasks: sessions are told of the end after the writers have ended.
        let server = tokio::spawn(service.serve(listener, tls));
        self.health.enter(Phase::Leading);
        tokio::select! {
            ended = tasks.join_next() => bail!("a leader's task has ended: {ended:?}"),
            served = server => bail!("NodeSync has ended: {served:?}"),
        }
    }

    /// Waits until every pod has an identity: of one that is being relabelled this replica does not know the former labels, and
    /// a node that is served now would take it for a pod without an identity.
    async fn identified(&self) {
        self.health.enter(Phase::Preparing { step: "identities" });
        let mut demands = self.demands.clone();
        let identified = demands.wait_for(|demands| demands.complete && demands.identities.is_empty());
        if tokio::time::timeout(IDENTIFIED, identified).await.is_err() {
            warn!("some pods have no identity yet; nodes are served without them");
        }
    }

    fn registrar(&self, authority: watch::Receiver<Authority>) -> Registrar<KubernetesVouch> {
        let vouch = KubernetesVouch::new(self.client.clone());
        let lifetime = Duration::from_secs(self.config.operator.node_certificate_seconds.into());
        let account = &self.config.operator.node_service_account;
        let now = authority.borrow().clone();
        Registrar::new(vouch, now, &self.flags.pod_namespace, account, lifetime).following(authority)
    }

    fn marks(&self) -> Marks {
        let operator = &self.config.operator;
        Marks {
            namespace: self.flags.pod_namespace.clone(),
            selector: operator.node_pod_selector.clone(),
            taint: self.config.agent_not_ready_taint_key.clone(),
            remove: operator.remove_node_taints,
            set: operator.set_node_taints,
            condition: operator.set_node_network_status,
        }
    }

    fn directory(&self, authority: &watch::Sender<Authority>, addresses: &watch::Sender<Vec<String>>) -> Directory {
        Directory {
            namespace: self.flags.pod_namespace.clone(),
            selector: self.config.operator.pod_selector.clone(),
            own: self.flags.host_ip,
            port: self.config.operator.port,
            authority: authority.subscribe(),
            addresses: addresses.clone(),
        }
    }

    /// Tries a step until it succeeds; the reason why it does not is in the log and in the probe.
    async fn step<T, E, F>(&self, name: &'static str, attempt: impl Fn() -> F) -> T
    where
        E: std::error::Error + Display,
        F: Future<Output = Result<T, E>>,
    {
        self.health.enter(Phase::Preparing { step: name });
        loop {
            match attempt().await {
                Ok(done) => {
                    info!(step = name, "done");
                    return done;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    error!(step = name, %error, cause, "failed, trying again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Long-lived processes never show an old certificate, nor one of an old CA.
async fn renew_tls(tls: ServerTls, mut authority: watch::Receiver<Authority>) {
    loop {
        if let Ok(Err(_)) = tokio::time::timeout(RENEW_TLS, authority.changed()).await {
            // Nobody leads any more.
            return;
        }
        let authority = authority.borrow_and_update().clone();
        if let Err(error) = tls.renew(&authority) {
            error!(%error, "the server's certificate cannot be renewed");
        }
    }
}
