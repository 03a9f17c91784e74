//! Names of the programs, where each belongs, and how they are handed to the kernel.

use std::io;

use aya::programs::{Program, ProgramError};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Ingress of the host side of a pod's veth: what the pod sends.
    PodIngress,
    /// Egress of the host side of a pod's veth: what the host's stack delivers to the pod.
    PodEgress,
    /// Ingress of an underlay device.
    UplinkIngress,
    /// Egress of an underlay device.
    UplinkEgress,
    /// Ingress of the collect_metadata VXLAN device.
    OverlayIngress,
    /// Egress of the collect_metadata VXLAN device.
    OverlayEgress,
    /// The root cgroup, with the attach type that the section's name says.
    Cgroup,
}

pub const FROM_POD: &str = "from_pod";
pub const TO_POD: &str = "to_pod";
pub const FROM_UPLINK: &str = "from_uplink";
pub const TO_UPLINK: &str = "to_uplink";
pub const FROM_OVERLAY: &str = "from_overlay";
pub const TO_OVERLAY: &str = "to_overlay";
pub const SOCK_CONNECT4: &str = "sock_connect4";
pub const SOCK_CONNECT6: &str = "sock_connect6";
pub const SOCK_SENDMSG4: &str = "sock_sendmsg4";
pub const SOCK_SENDMSG6: &str = "sock_sendmsg6";
pub const SOCK_RECVMSG4: &str = "sock_recvmsg4";
pub const SOCK_RECVMSG6: &str = "sock_recvmsg6";
pub const SOCK_GETPEERNAME4: &str = "sock_getpeername4";
pub const SOCK_GETPEERNAME6: &str = "sock_getpeername6";

/// Every program of the object with its hook.
pub const ALL: &[(&str, Hook)] = &[
    (FROM_POD, Hook::PodIngress),
    (TO_POD, Hook::PodEgress),
    (FROM_UPLINK, Hook::UplinkIngress),
    (TO_UPLINK, Hook::UplinkEgress),
    (FROM_OVERLAY, Hook::OverlayIngress),
    (TO_OVERLAY, Hook::OverlayEgress),
    (SOCK_CONNECT4, Hook::Cgroup),
    (SOCK_CONNECT6, Hook::Cgroup),
    (SOCK_SENDMSG4, Hook::Cgroup),
    (SOCK_SENDMSG6, Hook::Cgroup),
    (SOCK_RECVMSG4, Hook::Cgroup),
    (SOCK_RECVMSG6, Hook::Cgroup),
    (SOCK_GETPEERNAME4, Hook::Cgroup),
    (SOCK_GETPEERNAME6, Hook::Cgroup),
];

/// How often verification begins anew.
const ATTEMPTS: usize = 8;

/// Has the kernel verify a program, which takes long enough that a signal may interrupt it: then the kernel wants to be asked again.
///
/// # Errors
/// What the kernel says, and `UnexpectedProgramType` for programs of a type that the object does not have.
pub fn load(program: &mut Program) -> Result<(), ProgramError> {
    let mut attempt = || match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    attempt()
}
