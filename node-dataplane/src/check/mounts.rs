//! Control groups and the BPF file system.

use std::path::Path;

use axoneme_admin::check::Finding;
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::{Filesystem, Host, Probe};
use crate::programs::bpffs::HYBRID;

/// Where some hosts mount version 2 that the loader does not find by itself.
const ELSEWHERE: &[&str] = &["run/cgroupv2", "var/run/cilium/cgroupv2"];

/// What is mounted at a path.
pub(super) fn filesystem(path: &Path) -> Option<Filesystem> {
    let kind = statfs(path).ok()?.filesystem_type();
    Some(match kind {
        CGROUP2_SUPER_MAGIC => Filesystem::Cgroup2,
        BPF_FS_MAGIC => Filesystem::Bpf,
        _ => Filesystem::Other,
    })
}

impl<P: Probe> Host<P> {
    pub(super) fn mounts(&self) -> Vec<Finding> {
        vec![self.cgroup(), self.bpffs()]
    }

    fn cgroup(&self) -> Finding {
        const CHECK: &str = "cgroup";
        let is_v2 = |path: &Path| self.probe.filesystem(path) == Some(Filesystem::Cgroup2);
        let (configured, shown) = (self.configured(&self.config.cgroup_root), self.config.cgroup_root.display());
        if is_v2(&configured) {
            return Finding::good(CHECK, format!("version 2 at {shown}"));
        }
        if is_v2(&configured.join(HYBRID)) {
            return Finding::good(CHECK, format!("hybrid: version 2 at {shown}/{HYBRID}, version 1 beside it"));
        }
        let usual = self.path("sys/fs/cgroup");
        if is_v2(&usual) || is_v2(&usual.join(HYBRID)) {
            let advice = "leave cgroup.hostRoot as it is by default: /sys/fs/cgroup";
            return Finding::bad(CHECK, format!("{shown} is not of version 2"), advice);
        }
        match ELSEWHERE.iter().find(|path| is_v2(&self.path(path))) {
            Some(path) => Finding::warning(
                CHECK,
                format!("version 2 is at /{path}, where it is not looked for"),
                format!("install with --set cgroup.hostRoot=/{path}"),
            ),
            None => Finding::bad(
                CHECK,
                "version 2 is mounted nowhere: services would not be translated when sockets connect",
                "mount -t cgroup2 none /run/cgroupv2 on the node and install with --set cgroup.hostRoot=/run/cgroupv2, or start \
                 the node with systemd.unified_cgroup_hierarchy=1",
            ),
        }
    }

    fn bpffs(&self) -> Finding {
        const CHECK: &str = "bpffs";
        let mounted = self.path("sys/fs/bpf");
        if self.probe.filesystem(&mounted) == Some(Filesystem::Bpf) {
            return Finding::good(CHECK, "mounted at /sys/fs/bpf");
        }
        Finding::bad(
            CHECK,
            "no BPF file system at /sys/fs/bpf: programs would not outlive the daemon",
            "mount -t bpf bpf /sys/fs/bpf, and have it done at every start (systemd does; else /etc/fstab)",
        )
    }
}
