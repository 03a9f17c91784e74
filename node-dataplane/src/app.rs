//! Wires the daemon and runs it until it is told to stop.
//!
//! Start: settings, kernel, programs (in a process of its own), maps, attachments, checkpoint; then everything at once: the
//! reconcilers, the operator, CNI. The runtime is told of the network when pods can be attached. The end leaves everything in
//! the kernel as it is.

mod admin;
mod announce;
pub mod cleanup;
mod connection;
mod daemon;
pub mod memory;

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::check;
use crate::config::{Config, Flags};
use crate::programs;
use crate::telemetry::health::Health;
use crate::telemetry::server::{Page, listen, serve};
use daemon::Daemon;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, with everything that led to it. What ran in the kernel before runs on.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let config = Config::read(&flags.config)?;
    let node = &flags.node_name;
    tracing::info!(node, version = env!("CARGO_PKG_VERSION"), "starting");
    for key in &config.unknown {
        tracing::warn!(key, "a setting that this version does not know changes nothing");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    mount_sysctls(&config.sysctl_root)?;
    std::fs::create_dir_all(&config.state_directory)
        .with_context(|| format!("cannot make {}", config.state_directory.display()))?;

    // Not before anything else: a host may have a million routes to look through.
    let looked_at = config.clone();
    tokio::task::spawn_blocking(move || check::say(&looked_at));
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
    tasks.spawn(daemon.clone().announce(announce::install(&config)?, health.clone()));

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
    // Nobody answers there any more, and a version before may follow that knows nothing of it. The next daemon cannot have made its
    // own yet: it waits for this one's port. That it is not there is no harm.
    let _ = std::fs::remove_file(daemon::admin_socket(&config));
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
