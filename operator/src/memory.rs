//! What a burst took goes back to the system.
//!
//! mimalloc gives freed pages back when, a second later, somebody allocates. An operator that has just served all its nodes is
//! idle then, and would keep ten times what it needs.

use std::convert::Infallible;
use std::time::Duration;

// The allocator of the process; see `main`.
use mimalloc as _;

/// How often freed pages are given back. Takes a few milliseconds where there are many, else microseconds.
pub const INTERVAL: Duration = Duration::from_secs(5);

unsafe extern "C" {
    /// Gives back what is free; with `force`, also what was freed just now. As `mimalloc.h` declares it.
    fn mi_collect(force: bool);
}

/// Gives freed pages back now and then, for as long as it is polled.
pub async fn give_back() -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // SAFETY: any thread may call it at any time; what is in use stays where it is.
        unsafe { mi_collect(true) };
    }
}
