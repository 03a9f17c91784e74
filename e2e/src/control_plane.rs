//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes of this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::address::Addresses;
use crate::api::Api;
use crate::cgroup::Hierarchies;
use crate::gobuild::{ETCD, KUBE};
use crate::paths::Paths;
use crate::pki::{Pki, Subject};
use crate::process::{Daemon, ProcessId};
use crate::state::Folder;

/// The components, in the order in which they start.
pub const COMPONENTS: [&str; 4] = ["etcd", "apiserver", "controller-manager", "scheduler"];

/// Who watches what, and until when: the only way to tell whose watches the API server holds.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, verbs: [watch]}
  - {level: None}
";

/// Starts components of one cluster's control plane.
#[derive(Debug)]
pub struct ControlPlane<'a> {
    paths: &'a Paths,
    folder: &'a Folder,
    addresses: Addresses,
    pki: Pki,
}

impl<'a> ControlPlane<'a> {
    /// The control plane of the cluster in `folder`; makes its keys and kubeconfigs where they are missing.
    pub fn new(paths: &'a Paths, folder: &'a Folder, addresses: Addresses) -> Result<Self> {
        let pki = Pki::open(folder.path.join("pki"))?;
        let serving = Subject {
            user: "kube-apiserver",
            names: vec!["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"],
            addresses: [addresses.api_service(), [127, 0, 0, 1].into()]
                .into_iter()
                .chain(addresses.machine().iter().map(ipnet::IpNet::addr))
                .collect(),
            ..Subject::default()
        };
        pki.issue("apiserver", &serving)?;
        let clients = [
            ("admin", "admin", Some("system:masters")),
            // The API server asks kubelets for logs and exec with this one; the group gives the right to.
            ("kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
        ];
        for (name, user, group) in clients {
            pki.issue(name, &Subject { user, group, ..Subject::default() })?;
        }
        let control_plane = Self { paths, folder, addresses, pki };
        for name in ["controller-manager", "scheduler"] {
            control_plane.write_kubeconfig(name, &folder.path.join(format!("{name}.kubeconfig")))?;
        }
        control_plane.write_kubeconfig("admin", &folder.kubeconfig())?;
        std::fs::write(folder.path.join("audit-policy.yaml"), AUDIT_POLICY)?;
        Ok(control_plane)
    }

    /// The cluster's keys.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Writes a kubeconfig for the certificate `name`.
    pub fn write_kubeconfig(&self, name: &str, file: &std::path::Path) -> Result<()> {
        let server = format!("https://{}", std::net::SocketAddr::new(self.addresses.api_server(), 6443));
        self.pki.kubeconfig(file, &self.folder.label(), name, &server)
    }

    /// Starts one component.
    pub fn start(&self, component: &str) -> Result<ProcessId> {
        let (program, arguments) = match component {
            "etcd" => (ETCD, self.etcd()),
            "apiserver" => (KUBE, self.api_server()),
            "controller-manager" => (KUBE, self.controller_manager()),
            "scheduler" => (KUBE, self.scheduler()),
            other => bail!("the control plane has no component {other}, but {}", COMPONENTS.join(", ")),
        };
        let cgroups = Hierarchies::find()?.homes(&self.folder.label());
        Daemon::new(program.path(self.paths)?, self.folder.log(component)).args(arguments).cgroups(cgroups).start()
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_ready(&self, server: ProcessId) -> Result<Api> {
        let api = Api::new(&self.folder.kubeconfig())?;
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            match api.raw("/readyz") {
                Ok(_) => return Ok(api),
                Err(error) if !server.alive() || Instant::now() > deadline => {
                    return Err(error).with_context(|| {
                        format!(
                            "the API server does not get ready; its log: {}",
                            self.folder.log("apiserver").display()
                        )
                    });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.addresses.etcd_port())
    }

    fn etcd(&self) -> Vec<String> {
        let peers = format!("http://127.0.0.1:{}", self.addresses.etcd_port() + 1);
        vec![
            "--name=default".to_owned(),
            format!("--data-dir={}", self.folder.path.join("etcd").display()),
            format!("--listen-client-urls={}", self.etcd_url()),
            format!("--advertise-client-urls={}", self.etcd_url()),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // A test cluster need not survive a power cut; this is most of etcd's time on a slow disk.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let mut arguments = vec!["kube-apiserver".to_owned()];
        let mut flag = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        let file = |path: std::path::PathBuf| path.display().to_string();
        let pki = &self.pki;
        flag("etcd-servers", self.etcd_url());
        flag("bind-address", self.addresses.api_server().to_string());
        flag("advertise-address", self.addresses.api_server().to_string());
        flag("secure-port", "6443".to_owned());
        flag("tls-cert-file", file(pki.certificate("apiserver")));
        flag("tls-private-key-file", file(pki.key("apiserver")));
        flag("client-ca-file", file(pki.certificate("ca")));
        flag("service-account-key-file", file(pki.public_key("service-accounts")));
        flag("service-account-signing-key-file", file(pki.key("service-accounts")));
        flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned());
        flag("service-cluster-ip-range", list(&self.addresses.services()));
        flag("authorization-mode", "Node,RBAC".to_owned());
        flag("enable-admission-plugins", "NodeRestriction".to_owned());
        flag("allow-privileged", "true".to_owned());
        // Nodes' names are in no DNS: without this, exec, logs and every probe of the upstream specs fail.
        flag("kubelet-preferred-address-types", "InternalIP".to_owned());
        flag("kubelet-certificate-authority", file(pki.certificate("ca")));
        flag("kubelet-client-certificate", file(pki.certificate("kubelet-client")));
        flag("kubelet-client-key", file(pki.key("kubelet-client")));
        flag("audit-policy-file", file(self.folder.path.join("audit-policy.yaml")));
        flag("audit-log-path", file(self.folder.log("audit")));
        arguments
    }

    fn controller_manager(&self) -> Vec<String> {
        let kubeconfig = self.folder.path.join("controller-manager.kubeconfig").display().to_string();
        vec![
            "kube-controller-manager".to_owned(),
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--bind-address={}", self.addresses.api_server()),
            format!("--service-account-private-key-file={}", self.pki.key("service-accounts").display()),
            format!("--root-ca-file={}", self.pki.certificate("ca").display()),
            format!("--cluster-signing-cert-file={}", self.pki.certificate("ca").display()),
            format!("--cluster-signing-key-file={}", self.pki.key("ca").display()),
            "--use-service-account-credentials=true".to_owned(),
            // Pod addresses are the network's business.
            "--allocate-node-cidrs=false".to_owned(),
            "--controllers=*,-nodeipam,-node-route-controller,-cloud-node-lifecycle-controller,-service-lb-controller"
                .to_owned(),
            "--leader-elect=false".to_owned(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        let kubeconfig = self.folder.path.join("scheduler.kubeconfig").display().to_string();
        vec![
            "kube-scheduler".to_owned(),
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--bind-address={}", self.addresses.api_server()),
            "--leader-elect=false".to_owned(),
        ]
    }
}

fn list(networks: &[ipnet::IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
