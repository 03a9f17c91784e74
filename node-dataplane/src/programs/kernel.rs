//! What a node's kernel must have. Asked before anything is touched, by trying and not by version: distributions add features to
//! old versions.

use std::fmt;

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

/// Since which version all that is needed is in Linux.
pub const MINIMUM: &str = "5.18";

/// Something a node's kernel must have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requirement {
    /// For people.
    pub name: &'static str,
    /// The first version of Linux that has it.
    pub since: &'static str,
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Probe {
    Map(MapType),
    Program(Kind),
    Helper(Kind, BpfHelper),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Classifier,
    SockAddr,
}

impl Kind {
    fn program_type(self) -> ProgramType {
        match self {
            Self::Classifier => ProgramType::SchedClassifier,
            Self::SockAddr => ProgramType::CgroupSockAddr,
        }
    }
}

/// All that is needed.
pub const REQUIREMENTS: &[Requirement] = &[
    needs("LPM trie maps", "4.11", Probe::Map(MapType::LpmTrie)),
    needs("LRU hash maps", "4.10", Probe::Map(MapType::LruHash)),
    needs("BPF ring buffers", "5.8", Probe::Map(MapType::RingBuf)),
    needs("traffic control programs (CONFIG_NET_CLS_BPF)", "4.1", Probe::Program(Kind::Classifier)),
    needs("cgroup socket address programs (CONFIG_CGROUP_BPF)", "4.17", Probe::Program(Kind::SockAddr)),
    needs("bpf_redirect_peer", "5.10", Probe::Helper(Kind::Classifier, BpfHelper::BPF_FUNC_redirect_peer)),
    needs("bpf_ktime_get_coarse_ns", "5.11", Probe::Helper(Kind::Classifier, BpfHelper::BPF_FUNC_ktime_get_coarse_ns)),
    needs("bpf_loop", "5.17", Probe::Helper(Kind::Classifier, BpfHelper::BPF_FUNC_loop)),
    needs("bpf_set_retval", "5.18", Probe::Helper(Kind::SockAddr, BpfHelper::BPF_FUNC_set_retval)),
];

const fn needs(name: &'static str, since: &'static str, probe: Probe) -> Requirement {
    Requirement { name, since, probe }
}

/// What a kernel lacks.
#[derive(Debug, PartialEq, thiserror::Error)]
pub struct Unsupported {
    /// The kernel's version.
    pub kernel: String,
    /// What it lacks, never empty.
    pub missing: Vec<Requirement>,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this node's kernel ({}) lacks ", self.kernel)?;
        for (i, requirement) in self.missing.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} (Linux {})", requirement.name, requirement.since)?;
        }
        write!(f, ": Linux {MINIMUM} or later is needed (with 6.6 or later, tcx is used in place of clsact)")
    }
}

/// Why a kernel is not good enough.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It lacks something.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// It could not be asked.
    #[error("cannot find out whether the kernel has {what}: the daemon needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Probe {
        /// What was tried.
        what: &'static str,
        /// Why it could not be found out.
        source: Box<ProgramError>,
    },
}

/// Asks the kernel for all [`REQUIREMENTS`].
///
/// # Errors
/// Naming everything that is missing.
pub fn check() -> Result<(), KernelError> {
    let mut missing = Vec::new();
    for requirement in REQUIREMENTS {
        let supported = match requirement.probe {
            Probe::Map(kind) => is_map_supported(kind).map_err(ProgramError::from),
            Probe::Program(kind) => is_program_supported(kind.program_type()),
            Probe::Helper(kind, helper) => is_helper_supported(kind.program_type(), helper),
        };
        let what = requirement.name;
        if !supported.map_err(|source| KernelError::Probe { what, source: Box::new(source) })? {
            missing.push(*requirement);
        }
    }
    Ok(judge(version(), missing)?)
}

fn judge(kernel: String, missing: Vec<Requirement>) -> Result<(), Unsupported> {
    if missing.is_empty() { Ok(()) } else { Err(Unsupported { kernel, missing }) }
}

/// The version of the kernel that runs.
#[must_use]
pub fn version() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "unknown".to_owned(), |release| release.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks_and_what_is_needed() {
        let lacks = |name: &str| *REQUIREMENTS.iter().find(|r| r.name == name).unwrap();
        let error = judge("5.4.0".into(), vec![lacks("BPF ring buffers"), lacks("bpf_loop")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this node's kernel (5.4.0) lacks BPF ring buffers (Linux 5.8), bpf_loop (Linux 5.17): Linux 5.18 or later is needed \
             (with 6.6 or later, tcx is used in place of clsact)"
        );
        assert_eq!(judge("6.18".into(), vec![]), Ok(()));
    }
}
