//! What a burst took goes back to the system.
//!
//! mimalloc gives freed pages back when, a second later, somebody allocates. An operator that has just served all its nodes is
//! idle then, and would keep ten times what it needs. What threads keep for themselves has to be collected besides.

use std::convert::Infallible;
use std::ffi::{c_int, c_long};
use std::time::Duration;

// The allocator of the process; see `main`.
use mimalloc as _;

/// How often what threads keep is collected. Takes a few milliseconds where there are many, else microseconds.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// `mi_option_purge_delay`: after how many milliseconds freed pages are given back.
const PURGE_DELAY: c_int = 15;

// As `mimalloc.h` declares them.
unsafe extern "C" {
    /// Gives back what is free; with `force`, also what threads keep.
    fn mi_collect(force: bool);
    fn mi_option_set(option: c_int, value: c_long);
}

/// Has freed pages given back, for as long as it is polled.
pub async fn give_back() -> Infallible {
    // SAFETY: options are numbers that any thread may set at any time.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
    loop {
        tokio::time::sleep(INTERVAL).await;
        // SAFETY: any thread may call it at any time; what is in use stays where it is.
        unsafe { mi_collect(true) };
    }
}
