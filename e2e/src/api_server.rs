//! An API server with its etcd and nothing else, for tests of what talks to it: up in seconds, gone with its value.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::api::Api;
use crate::gobuild::{ETCD, KUBE};
use crate::paths::Paths;
use crate::pki::{Pki, Subject};

/// How long it may take until it is ready, on a machine that is busy with other things.
const READY: Duration = Duration::from_secs(120);

/// A running API server. Everybody with its kubeconfig may do everything.
#[derive(Debug)]
pub struct ApiServer {
    // Before the folder that they write to.
    processes: Vec<Child>,
    folder: TempDir,
}

impl ApiServer {
    /// Builds what is not built yet, starts it and waits until it is ready.
    pub fn start() -> Result<Self> {
        let paths = Paths::from_environment()?;
        let folder = tempfile::Builder::new().prefix("axo-api-").tempdir()?;
        let [etcd, peers, secure] = free_ports()?;
        let mut server = Self { processes: Vec::new(), folder };
        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let peers = format!("http://127.0.0.1:{peers}");
        server.spawn(
            Command::new(ETCD.build(&paths)?)
                .arg(format!("--data-dir={}", server.path("etcd").display()))
                .args([format!("--listen-client-urls={etcd_url}"), format!("--advertise-client-urls={etcd_url}")])
                .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
                .arg(format!("--initial-cluster=default={peers}"))
                .args(["--unsafe-no-fsync", "--log-level=warn"]),
            "etcd",
        )?;
        let pki = server.keys(secure)?;
        server.spawn(
            Command::new(KUBE.build(&paths)?)
                .arg("kube-apiserver")
                .arg(format!("--etcd-servers={etcd_url}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC"])
                .arg(format!("--secure-port={secure}"))
                .arg(format!("--tls-cert-file={}", pki.certificate("apiserver").display()))
                .arg(format!("--tls-private-key-file={}", pki.key("apiserver").display()))
                .arg(format!("--client-ca-file={}", pki.certificate("ca").display()))
                .arg(format!("--service-account-key-file={}", pki.public_key("service-accounts").display()))
                .arg(format!("--service-account-signing-key-file={}", pki.key("service-accounts").display()))
                .args(["--service-account-issuer=https://kubernetes", "--service-cluster-ip-range=10.96.0.0/16"]),
            "apiserver",
        )?;
        server.wait()?;
        Ok(server)
    }

    /// How clients find it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keys(&self, port: u16) -> Result<Pki> {
        let pki = Pki::open(self.path("pki"))?;
        let addresses = vec![Ipv4Addr::LOCALHOST.into()];
        pki.issue("apiserver", &Subject { user: "kube-apiserver", addresses, ..Subject::default() })?;
        pki.issue("admin", &Subject { user: "admin", group: Some("system:masters"), ..Subject::default() })?;
        pki.kubeconfig(&self.kubeconfig(), "api", "admin", &format!("https://127.0.0.1:{port}"))?;
        Ok(pki)
    }

    /// The process ends with this one, also where that is killed and drops nothing.
    fn spawn(&mut self, command: &mut Command, name: &str) -> Result<()> {
        let log = std::fs::File::create(self.log(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: prctl is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
        }
        self.processes.push(command.spawn().with_context(|| format!("cannot start {name}"))?);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    fn wait(&mut self) -> Result<()> {
        let api = Api::new(&self.kubeconfig())?;
        let deadline = Instant::now() + READY;
        loop {
            let Err(error) = api.raw("/readyz") else { return Ok(()) };
            for (process, name) in self.processes.iter_mut().zip(["etcd", "apiserver"]) {
                if let Some(status) = process.try_wait()? {
                    bail!("{name} has ended ({status}):\n{}", tail(&self.folder.path().join(format!("{name}.log"))));
                }
            }
            if Instant::now() > deadline {
                return Err(error).context(format!("not ready; its log ends:\n{}", tail(&self.log("apiserver"))));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Ports that nobody has now. Who is faster in taking one makes the start fail.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
