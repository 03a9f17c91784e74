//! Threads that end with what started them.

use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

/// What a thread gave back; a panic in it goes on here.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
