//! One node: its network namespace and mounts, containerd and kubelet.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::address::Addresses;
use crate::cgroup::Hierarchies;
use crate::control_plane::ControlPlane;
use crate::gobuild::{KUBE, LOOPBACK};
use crate::link;
use crate::node_config;
use crate::paths::Paths;
use crate::pki::Subject;
use crate::process::{Daemon, ProcessId, wait_until};
use crate::sandbox::{self, Mounts, Namespaces};
use crate::state::{Folder, NodeState, State};

/// The components of a node, in the order in which they start.
pub const COMPONENTS: [&str; 2] = ["containerd", "kubelet"];

/// Where a node sees its own cgroup v2 subtree, whatever the machine's layout: programs that attach to "the root cgroup"
/// attach here.
pub const CGROUP_ROOT: &str = "/run/cgroupv2";

/// Folders of a machine that belong to a Kubernetes node, with the name under which this cluster keeps each node's.
const OWN_FOLDERS: [(&str, &str); 8] = [
    ("/opt/cni/bin", "cni-bin"),
    ("/etc/cni/net.d", "cni-conf"),
    ("/var/lib/cni", "cni-state"),
    ("/var/lib/kubelet", "kubelet"),
    ("/var/lib/axoneme", "axoneme"),
    ("/var/log/pods", "pod-logs"),
    ("/var/log/containers", "container-logs"),
    ("/var/log/axoneme", "axoneme-logs"),
];

/// A node of a cluster.
#[derive(Debug)]
pub struct Node<'a> {
    paths: &'a Paths,
    folder: &'a Folder,
    cluster: Addresses,
    /// Counted from 1.
    pub index: u8,
    /// See [`Folder::node_name`].
    pub name: String,
}

impl<'a> Node<'a> {
    /// Node `index` of the cluster.
    pub fn new(paths: &'a Paths, folder: &'a Folder, state: &State, index: u8) -> Self {
        Self { paths, folder, cluster: state.addresses(), index, name: folder.node_name(index) }
    }

    fn addresses(&self) -> Vec<IpNet> {
        self.cluster.node(self.index)
    }

    fn own(&self, name: &str) -> PathBuf {
        self.folder.node(self.index).join(name)
    }

    /// Makes the node's namespaces, cgroups and folders, and its keys.
    pub fn create(&self, control_plane: &ControlPlane<'_>) -> Result<ProcessId> {
        let user = format!("system:node:{}", self.name);
        let ips: Vec<_> = self.addresses().iter().map(IpNet::addr).collect();
        let subject = Subject { user: &user, group: Some("system:nodes"), names: vec![&self.name], addresses: ips };
        control_plane.pki().issue(&self.name, &subject)?;
        for (place, name) in OWN_FOLDERS {
            std::fs::create_dir_all(place).with_context(|| format!("cannot make the mount point {place}"))?;
            std::fs::create_dir_all(self.own(name))?;
        }
        control_plane.write_kubeconfig(&self.name, &self.own("kubeconfig"))?;
        std::fs::copy(LOOPBACK.path(self.paths)?, self.own("cni-bin/loopback"))?;
        let authority = control_plane.pki().certificate("ca");
        let (certificate, key) = (control_plane.pki().certificate(&self.name), control_plane.pki().key(&self.name));
        std::fs::write(self.own("containerd.toml"), node_config::containerd(&self.own("containerd"), self.cluster))?;
        let config = node_config::kubelet(&self.name, self.cluster, &authority, &certificate, &key)?;
        std::fs::write(self.own("kubelet.yaml"), config)?;

        let cgroups = Hierarchies::find()?;
        cgroups.create(&self.name)?;
        link::create_node(&self.name, &self.folder.label(), &self.addresses(), &self.cluster.machine())?;
        let init = sandbox::start(
            &self.name,
            &link::network_namespace(&self.name),
            self.mounts(&cgroups)?,
            &cgroups.system(&self.name),
            &self.log("init"),
        )?;
        // A node forwards for its pods, like any machine that runs Kubernetes.
        let status = Namespaces::of(init)?
            .command("/bin/sh")?
            .args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"])
            .status()?;
        if !status.success() {
            bail!("cannot turn on forwarding in {}", self.name);
        }
        Ok(init)
    }

    fn mounts(&self, cgroups: &Hierarchies) -> Result<Mounts> {
        let mut mounts = Mounts::default().isolate()?.clear("/sys/fs/bpf")?.filesystem("tmpfs", "/run")?;
        // /sys shows the devices of the network namespace it was mounted in, so the node needs one of its own, and with it
        // the cgroups, which stand below it.
        for folder in ["/run/containerd", "/run/netns", "/run/lock", "/run/cgroup"] {
            mounts = mounts.folder(folder)?;
        }
        mounts = mounts
            .bind_all("/sys/fs/cgroup", "/run/cgroup")?
            .filesystem("sysfs", "/sys")?
            .relocate("/run/cgroup", "/sys/fs/cgroup")?
            .filesystem("bpf", "/sys/fs/bpf")?
            .folder(CGROUP_ROOT)?
            .bind(cgroups.v2().join(&self.name), CGROUP_ROOT)?;
        for (place, name) in OWN_FOLDERS {
            mounts = mounts.bind(self.own(name), place)?;
        }
        mounts.share()
    }

    /// Starts one component in the node's namespaces.
    pub fn start(&self, init: ProcessId, component: &str) -> Result<ProcessId> {
        let namespaces = Namespaces::of(init)?;
        let (program, arguments) = match component {
            "containerd" => (
                "/usr/bin/containerd".into(),
                vec!["--config".to_owned(), self.own("containerd.toml").display().to_string()],
            ),
            "kubelet" => (KUBE.path(self.paths)?, self.kubelet_arguments()),
            other => bail!("a node has no component {other}, but {}", COMPONENTS.join(", ")),
        };
        let cgroups = Hierarchies::find()?.homes(&self.name);
        Daemon::new(program, self.log(component)).args(arguments).inside(&namespaces).cgroups(cgroups).start()
    }

    fn kubelet_arguments(&self) -> Vec<String> {
        let ips: Vec<_> = self.addresses().iter().map(|a| a.addr().to_string()).collect();
        vec![
            "kubelet".to_owned(),
            format!("--kubeconfig={}", self.own("kubeconfig").display()),
            format!("--config={}", self.own("kubelet.yaml").display()),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", ips.join(",")),
        ]
    }

    /// Waits until containerd answers.
    pub fn wait_containerd(&self, init: ProcessId) -> Result<()> {
        let namespaces = Namespaces::of(init)?;
        let answers = || {
            let mut command = namespaces.command("ctr").ok()?;
            command.arg("version").output().ok().filter(|o| o.status.success())
        };
        let socket = PathBuf::from(format!("/proc/{}/root/run/containerd/containerd.sock", init.pid));
        if wait_until(Duration::from_secs(30), || socket.exists())
            && wait_until(Duration::from_secs(30), || answers().is_some())
        {
            return Ok(());
        }
        bail!("containerd of {} does not answer; its log: {}", self.name, self.log("containerd").display())
    }

    /// The state of a node of which nothing but `init` runs.
    pub fn state(init: ProcessId) -> NodeState {
        NodeState { init, processes: Default::default() }
    }

    fn log(&self, component: &str) -> PathBuf {
        self.folder.log(&format!("n{}-{component}", self.index))
    }
}
