//! The `bpf(2)` calls for links and programs. Links keep a program attached, and are told to use another one atomically.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::link::filter::Direction;
use crate::maps::bpf;

const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    /// A cgroup's descriptor, or a device's index.
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Of tcx: relative to which other program. 0: behind all others.
    relative_fd: u32,
    reserved: u32,
    expected_revision: u64,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The beginning of `struct bpf_link_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// `enum bpf_link_type`.
    pub kind: u32,
    /// Of the kernel.
    pub id: u32,
    /// The program that it attaches.
    pub program: u32,
    reserved: u32,
    /// tcx: index of the device, 0 once that is gone. A cgroup: lower half of its id.
    pub target: u32,
    /// tcx: attach type. A cgroup: upper half of its id.
    pub target_high: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// `enum bpf_prog_type`.
    pub kind: u32,
    /// Of the kernel; never reused before it wraps.
    pub id: u32,
    /// Hash of the instructions as they were loaded, but for maps' addresses.
    pub tag: [u8; 8],
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn create(attr: &mut LinkCreate) -> io::Result<OwnedFd> {
    // SAFETY: LinkCreate is the beginning of the attributes of LINK_CREATE and holds no pointer; it returns a new descriptor.
    unsafe { bpf::descriptor(bpf::call(LINK_CREATE, attr)?) }
}

/// Attaches a program to a device behind those that are there. Waits for a grace period of the kernel (12-16 ms).
///
/// # Errors
/// EINVAL: this kernel has no tcx.
pub fn attach_tcx(program: BorrowedFd<'_>, device: u32, direction: Direction) -> io::Result<OwnedFd> {
    let attach_type = match direction {
        Direction::Ingress => TCX_INGRESS,
        Direction::Egress => TCX_EGRESS,
    };
    create(&mut LinkCreate { prog_fd: raw(program), target: device, attach_type, ..LinkCreate::default() })
}

/// Whether this kernel has tcx (6.6 and later): one that has asks for the device first, others refuse the attach type.
///
/// # Errors
/// When the kernel refuses for a reason that says neither.
pub fn has_tcx(classifier: BorrowedFd<'_>) -> io::Result<bool> {
    const NO_DEVICE: u32 = i32::MAX.cast_unsigned();
    match attach_tcx(classifier, NO_DEVICE, Direction::Ingress) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODEV) => Ok(true),
            Some(libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Attaches a program to a cgroup, beside those of others.
///
/// # Errors
/// When the kernel refuses.
pub fn attach_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    create(&mut LinkCreate { prog_fd: raw(program), target: raw(cgroup), attach_type, ..LinkCreate::default() })
}

/// Makes a link attach another program; there is no moment with neither or both.
///
/// # Errors
/// When the kernel refuses, for one because what the link was attached to is gone.
pub fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate { link_fd: raw(link), new_prog_fd: raw(program), flags: 0, old_prog_fd: 0 };
    // SAFETY: LinkUpdate is the beginning of the attributes of LINK_UPDATE and holds no pointer.
    unsafe { bpf::call(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link's program now, not only when the last reference to the link is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = raw(link);
    // SAFETY: the attributes of LINK_DETACH are the link's descriptor.
    unsafe { bpf::call(LINK_DETACH, &mut attr) }.map(drop)
}

/// What a link attaches, and to what.
///
/// # Errors
/// When the kernel refuses.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: LinkInfo is the beginning of struct bpf_link_info and holds integers only; the kernel writes to an address in it
    // only for raw tracepoints and iterators, which we never pin.
    unsafe { bpf::info(link) }
}

/// What a program is.
///
/// # Errors
/// When the kernel refuses.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    // SAFETY: ProgramInfo is the beginning of struct bpf_prog_info and holds integers only.
    unsafe { bpf::info(program) }
}
