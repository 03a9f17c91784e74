//! The end of all that is pinned.

use std::fs;
use std::io;

use super::Paths;
use super::bpffs::BpffsError;

/// Removes every pin: links first, which takes their programs off devices and cgroup at once, then programs and maps, of which
/// the kernel keeps what somebody else still holds. What is not there is removed already.
///
/// # Errors
/// Naming the directory that stays.
pub fn unload(paths: &Paths) -> Result<(), BpffsError> {
    for directory in [&paths.links(), paths.root()] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BpffsError::directory(directory)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
