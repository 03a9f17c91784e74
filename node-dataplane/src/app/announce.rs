//! Says how the node is: to the runtime by the CNI configuration, to the operator, and to whoever asks.

use std::time::Duration;

use anyhow::Context;
use axoneme_proto::nodesync::NodeReport;
use tokio::time::{MissedTickBehavior, interval};

use super::daemon::{Daemon, attachments, deferred, socket};
use crate::config::Config;
use crate::endpoint::conflist::{Install, PLUGIN};
use crate::telemetry::health::Health;

/// How long another network's configuration may stand beside this one's.
const CONFLIST: Duration = Duration::from_secs(5);

/// When a host that refuses the plugin or the configuration is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be installed on the host.
pub(super) fn install(config: &Config) -> anyhow::Result<Install> {
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

impl Daemon {
    /// Says how the node is, to the runtime, the operator and whoever asks, for as long as the daemon runs.
    pub(super) async fn announce(self, install: Install, health: Health) {
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
                tokio::time::sleep(RETRY).await;
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
