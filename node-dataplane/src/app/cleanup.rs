//! Takes everything of this project off the node. Only an uninstallation asks for it: the daemon never does this by itself,
//! because it cannot tell its own restart from its end.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::announce;
use crate::config::{Config, Flags};
use crate::link::Links;
use crate::programs::{self, Paths};
use crate::telemetry::health::Health;
use crate::telemetry::server::{Page, listen, serve};

/// Cleans the node. With `stay`, then says that it is ready until it is told to stop, as a pod of a DaemonSet must.
///
/// # Errors
/// When a daemon runs here, or naming what cannot be removed; what comes before that is gone. It may be tried again.
pub async fn run(flags: &Flags, stay: bool) -> anyhow::Result<()> {
    let config = Config::read(&flags.config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A daemon would make everything anew, and it holds this port.
    let port = listen(config.health_port)
        .with_context(|| format!("health port {}: the daemon must have ended", config.health_port))?;
    clean(&config).await?;
    tracing::info!("nothing is left on this node");
    if !stay {
        return Ok(());
    }
    let health = Health::default();
    health.ready();
    tokio::select! {
        () = serve(port, Page::Health(health)) => bail!("the health port is not served any more"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The runtime is told first, so that no pod is attached meanwhile, and the plugin is gone before what it would leave behind.
async fn clean(config: &Config) -> anyhow::Result<()> {
    announce::install(config)?.remove().context("CNI")?;
    Links::connect()?.remove_everything().await.context("devices and routes")?;
    programs::unload(&Paths::new(&config.bpf_root)).context("programs and maps")?;
    for directory in [&config.run_directory, &config.state_directory] {
        empty(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    Ok(())
}

/// Removes all that is in a directory, which is a mount point in a container and stays.
fn empty(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
