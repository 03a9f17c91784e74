//! The allocator is told to be thrifty.

/// Gives memory that a snapshot took back to the kernel.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// One arena: the daemon is one thread, and what the pool for files frees is to be used again.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt is called before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}
