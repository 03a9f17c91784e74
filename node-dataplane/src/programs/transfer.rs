//! Carries entries over from a map to the one that takes its place.

use std::io;
use std::os::fd::BorrowedFd;

use axoneme_bpf::maps::{EVENTS, METRICS};

use crate::maps::bpf::{self, MapInfo};

/// Whether a map's entries can be carried over at all: not those of a ring, and not counters that each CPU has for itself.
pub(super) fn is_possible(map: &str) -> bool {
    ![EVENTS, METRICS].contains(&map)
}

/// Copies all entries that fit. Both maps must have keys and values of the sizes in `info`. Returns how many.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, info: &MapInfo) -> io::Result<u32> {
    let (mut key, mut next) = (vec![0_u8; info.key_size as usize], vec![0_u8; info.key_size as usize]);
    let mut value = vec![0_u8; info.value_size as usize];
    let mut copied = 0;
    // A hash under change may lead back to its beginning.
    for step in 0..info.max_entries.saturating_mul(2) {
        let start = if step == 0 { std::ptr::null() } else { key.as_ptr() };
        // SAFETY: the buffers have the sizes of the map's keys.
        match unsafe { bpf::next_key(from, start, next.as_mut_ptr()) } {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            result => result?,
        }
        std::mem::swap(&mut key, &mut next);
        // SAFETY: the buffers have the sizes of the maps' keys and values.
        let moved = unsafe {
            bpf::lookup(from, key.as_ptr(), value.as_mut_ptr())
                .and_then(|()| bpf::update(to, key.as_ptr(), value.as_ptr()))
        };
        match moved {
            Ok(()) => copied += 1,
            // Gone meanwhile, or the new map is smaller.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::E2BIG | libc::ENOSPC)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(copied)
}
