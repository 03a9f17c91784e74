//! Programs on the root cgroup: service translation when a socket connects or sends.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use axoneme_bpf::programs as names;

use super::{Paths, syscall};
use crate::maps::bpf;

/// Attach types of `enum bpf_attach_type`.
const PROGRAMS: &[(&str, u32)] = &[
    (names::SOCK_CONNECT4, 10),
    (names::SOCK_CONNECT6, 11),
    (names::SOCK_SENDMSG4, 14),
    (names::SOCK_SENDMSG6, 15),
    (names::SOCK_RECVMSG4, 19),
    (names::SOCK_RECVMSG6, 20),
    (names::SOCK_GETPEERNAME4, 29),
    (names::SOCK_GETPEERNAME6, 30),
];

/// Makes the pinned programs run on the cgroup at `root`. Returns how many links were made or changed.
pub(super) fn attach(paths: &Paths, root: &Path) -> io::Result<usize> {
    let cgroup = File::open(root)?;
    let id = cgroup.metadata()?.ino();
    let mut changed = 0;
    for (name, attach_type) in PROGRAMS {
        let program = bpf::open_pinned(&paths.programs().join(name))?;
        let pin = paths.links().join(name);
        changed += usize::from(ensure(&pin, program.as_fd(), cgroup.as_fd(), id, *attach_type)?);
    }
    Ok(changed)
}

fn ensure(pin: &Path, program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, id: u64, attach_type: u32) -> io::Result<bool> {
    match bpf::open_pinned(pin) {
        Ok(link) => {
            let info = syscall::link_info(link.as_fd())?;
            let attached_to = u64::from(info.target_high) << 32 | u64::from(info.target);
            if attached_to == id {
                if info.program == syscall::program_info(program)?.id {
                    return Ok(false);
                }
                syscall::update(link.as_fd(), program)?;
                return Ok(true);
            }
            // The cgroup is gone, or another one is configured.
            fs::remove_file(pin)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let link = syscall::attach_cgroup(program, cgroup, attach_type)?;
    bpf::pin(link.as_fd(), pin)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use axoneme_bpf::programs::{ALL, Hook};

    use super::*;

    #[test]
    fn every_program_of_the_cgroup_has_an_attach_type() {
        let of_object: Vec<_> = ALL.iter().filter(|(_, hook)| *hook == Hook::Cgroup).map(|(name, _)| *name).collect();
        let ours: Vec<_> = PROGRAMS.iter().map(|(name, _)| *name).collect();
        assert_eq!(ours, of_object);
    }
}
