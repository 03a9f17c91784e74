//! What a burst took goes back to the system.
//!
//! glibc keeps what is free between things in use. An operator that has just served all its nodes would be idle with ten times what
//! it needs.

use std::convert::Infallible;
use std::ffi::c_int;
use std::thread::available_parallelism;
use std::time::Duration;

/// How often freed pages are given back. Takes a few milliseconds where there are many, else microseconds.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Has threads share one heap a CPU, where glibc would make up to eight: what is free in one is lost to the others. For the process's
/// start, before there are threads.
pub fn one_heap_a_cpu() {
    let cpus = available_parallelism().map_or(1, |cpus| cpus.get());
    // SAFETY: sets a number; no heap is there yet but the first.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, c_int::try_from(cpus).unwrap_or(c_int::MAX)) };
}

/// Gives freed pages back now and then, for as long as it is polled.
pub async fn give_back() -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // SAFETY: any thread may call it at any time; what is in use stays where it is.
        unsafe { libc::malloc_trim(0) };
    }
}
