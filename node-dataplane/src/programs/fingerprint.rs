//! Whether what is pinned is what a load would pin: then a start of the daemon loads nothing, which takes most of a start's time.
//!
//! A number is kept in a map of its own, which lives and dies with the other pins. It stands for the built-in object, the sizes
//! of maps, and the very maps and programs that are pinned; it is taken away before a load touches anything.

use std::fs;
use std::hash::Hasher;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use axoneme_bpf::{maps, objects, programs};
use xxhash_rust::xxh3::Xxh3;

use super::sizes::Size;
use super::{Paths, syscall};
use crate::maps::bpf;

const MAP_CREATE: libc::c_int = 0;
const TYPE_ARRAY: u32 = 2;

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

fn pin(paths: &Paths) -> PathBuf {
    paths.root().join("loaded")
}

/// Of what is pinned now, for these sizes.
///
/// # Errors
/// When something that belongs there is not pinned.
fn current(paths: &Paths, sizes: &[Size]) -> io::Result<u64> {
    let mut hash = Xxh3::new();
    hash.update(objects::AXONEME);
    // Others are derived anew each time, and what is pinned keeps its own.
    for size in sizes.iter().filter(|size| size.configured) {
        hash.update(size.map.as_bytes());
        hash.write_u32(size.entries);
    }
    for name in maps::ALL {
        let map = bpf::open_pinned(&paths.maps().join(name))?;
        hash.write_u32(bpf::map_info(map.as_fd())?.id);
    }
    for (name, _) in programs::ALL {
        let program = bpf::open_pinned(&paths.programs().join(name))?;
        hash.write_u32(syscall::program_info(program.as_fd())?.id);
    }
    Ok(hash.finish())
}

/// Whether a load that ended well pinned what is pinned now, and this one would pin the same.
pub(super) fn is_current(paths: &Paths, sizes: &[Size]) -> bool {
    let read = || {
        let map = bpf::open_pinned(&pin(paths))?;
        if bpf::map_info(map.as_fd())?.value_size != 8 {
            return Ok(None);
        }
        let mut kept = 0_u64;
        // SAFETY: key and value have the sizes of the map, which is an array of this module's making.
        unsafe { bpf::lookup(map.as_fd(), (&raw const FIRST).cast(), (&raw mut kept).cast()) }?;
        Ok::<_, io::Error>(Some(kept))
    };
    read().ok().flatten().is_some_and(|kept| current(paths, sizes).is_ok_and(|current| current == kept))
}

/// To be called before a load touches anything.
///
/// # Errors
/// When the pin cannot be removed.
pub(super) fn forget(paths: &Paths) -> io::Result<()> {
    match fs::remove_file(pin(paths)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// To be called when all is in place.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn keep(paths: &Paths, sizes: &[Size]) -> io::Result<()> {
    let current = current(paths, sizes)?;
    let map = create()?;
    // SAFETY: key and value have the sizes of the map.
    unsafe { bpf::update(map.as_fd(), (&raw const FIRST).cast(), (&raw const current).cast()) }?;
    bpf::pin(map.as_fd(), &pin(paths))
}

static FIRST: u32 = 0;

fn create() -> io::Result<OwnedFd> {
    let mut attr = Create { map_type: TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    // SAFETY: the attributes are those of MAP_CREATE, which returns a new descriptor.
    unsafe { bpf::descriptor(bpf::call(MAP_CREATE, &mut attr)?) }
}
