//! Version, features, types of the kernel.

use axoneme_admin::check::Finding;

use super::{Host, Probe};
use crate::programs::kernel::{KernelError, MINIMUM};

const CHECK: &str = "kernel";

impl<P: Probe> Host<P> {
    pub(super) fn kernel(&self) -> Vec<Finding> {
        let version = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let version = version.trim();
        let features = match self.probe.kernel() {
            Ok(()) => Finding::good(CHECK, format!("Linux {version} has all that is needed")),
            Err(error @ KernelError::Unsupported(_)) => Finding::bad(
                CHECK,
                error.to_string(),
                format!("run Linux {MINIMUM} or later on this node, or one whose distribution added these features"),
            ),
            Err(error @ KernelError::Probe { .. }) => {
                Finding::bad(CHECK, format!("{error}"), "look from a privileged container, or as root")
            }
        };
        let types = if self.path("sys/kernel/btf/vmlinux").exists() {
            Finding::good("BTF", "the kernel tells its types")
        } else {
            Finding::warning(
                "BTF",
                "the kernel does not tell its types (/sys/kernel/btf/vmlinux)",
                "this network runs without; tools like bpftool show less. Kernels built with CONFIG_DEBUG_INFO_BTF have it",
            )
        };
        vec![features, types]
    }
}
